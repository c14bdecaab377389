// Checks what our ledger wrote with an implementation that is not ours: golang.org/x/mod/sumdb, the
// one that checks Go's own checksum database. It reads one JSON object from standard input and ends
// with 0 if everything in it holds.
package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type checkpoint struct {
	Note string
	Keys []string
}

type inclusion struct {
	Index  int64
	Leaf   []byte
	Hashes [][]byte
}

type consistency struct {
	Old    checkpoint
	Hashes [][]byte
}

type input struct {
	Head        checkpoint
	Inclusion   []inclusion
	Consistency []consistency
	Tiles       map[string][]byte
}

type tiles map[string][]byte

func (t tiles) Height() int                          { return 8 }
func (t tiles) SaveTiles(_ []tlog.Tile, _ [][]byte) {}
func (t tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	var found [][]byte
	for _, tile := range wanted {
		data := t[fmt.Sprintf("%d/%d", tile.L, tile.N)]
		if len(data) < tile.W*tlog.HashSize {
			return nil, fmt.Errorf("tile %v is too short", tile)
		}
		found = append(found, data[:tile.W*tlog.HashSize])
	}
	return found, nil
}

func open(c checkpoint) (tlog.Tree, error) {
	var verifiers []note.Verifier
	for _, key := range c.Keys {
		verifier, err := note.NewVerifier(key)
		if err != nil {
			return tlog.Tree{}, err
		}
		verifiers = append(verifiers, verifier)
	}
	opened, err := note.Open([]byte(c.Note), note.VerifierList(verifiers...))
	if err != nil {
		return tlog.Tree{}, err
	}
	lines := strings.Split(opened.Text, "\n")
	if opened.Sigs[0].Name != lines[0] {
		return tlog.Tree{}, fmt.Errorf("signed by %s, not by %s", opened.Sigs[0].Name, lines[0])
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return tlog.Tree{}, err
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	return tlog.Tree{N: size, Hash: tlog.Hash(root)}, err
}

func hashes(given [][]byte) []tlog.Hash {
	var made []tlog.Hash
	for _, each := range given {
		made = append(made, tlog.Hash(each))
	}
	return made
}

func check(in input) error {
	head, err := open(in.Head)
	if err != nil {
		return err
	}
	stored := tlog.TileHashReader(head, tiles(in.Tiles))
	for _, each := range in.Inclusion {
		leaf := tlog.RecordHash(each.Leaf)
		proof := tlog.RecordProof(hashes(each.Hashes))
		if err := tlog.CheckRecord(proof, head.N, head.Hash, each.Index, leaf); err != nil {
			return fmt.Errorf("inclusion of %d: %w", each.Index, err)
		}
		own, err := tlog.ProveRecord(head.N, each.Index, stored)
		if err != nil || fmt.Sprint(own) != fmt.Sprint(proof) {
			return fmt.Errorf("the proof of %d out of our tiles: %v", each.Index, err)
		}
	}
	for _, each := range in.Consistency {
		old, err := open(each.Old)
		if err != nil {
			return err
		}
		proof := tlog.TreeProof(hashes(each.Hashes))
		if err := tlog.CheckTree(proof, head.N, head.Hash, old.N, old.Hash); err != nil {
			return fmt.Errorf("consistency with %d: %w", old.N, err)
		}
	}
	return nil
}

func main() {
	var in input
	err := json.NewDecoder(os.Stdin).Decode(&in)
	if err == nil {
		err = check(in)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Printf("%d inclusion and %d consistency proofs hold\n", len(in.Inclusion), len(in.Consistency))
}
