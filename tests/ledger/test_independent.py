"""Checkpoints, proofs and tiles, checked by golang.org/x/mod/sumdb: not our code."""

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cluster import Cluster, open_database
from events import KEYS, ORIGIN, make_log
from knowledged.ledger import proofs
from knowledged.ledger.keys import KeyRing
from knowledged.ledger.note import SigningKey, sign
from knowledged.store import ledger, ledger_entries

SOURCE = Path(__file__).with_name("independent")
SIZE = 700
INDICES = (0, 1, 255, 256, 257, 511, 512, 640, 698, 699)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Go program, built; skips where Go or its module is not to be had."""
    if shutil.which("go") is None:
        pytest.skip("no go on PATH: nothing independent to check with")
    had = subprocess.run(["go", "mod", "download"], cwd=SOURCE, capture_output=True, check=False)
    if had.returncode:
        pytest.skip("golang.org/x/mod cannot be had: no module proxy in reach")
    built = tmp_path_factory.mktemp("independent") / "check"
    subprocess.run(["go", "build", "-o", built, "."], cwd=SOURCE, check=True)
    return built


@dataclass(frozen=True, slots=True)
class Ended:
    code: int
    output: str


def run(program: Path, given: dict[str, Any]) -> Ended:
    done = subprocess.run(
        [program], input=json.dumps(given), capture_output=True, text=True, check=False
    )
    return Ended(done.returncode, done.stdout + done.stderr)


@pytest.fixture(scope="module")
def given(program: Path, postgres: Cluster, migrated_template: str) -> Iterator[dict[str, Any]]:
    """What the program is to check, out of a log of 700 leaves with seven checkpoints."""
    name = postgres.create(migrated_template)
    yield postgres.run(_given(postgres.urls(name).server_dsn))
    postgres.drop(name)


async def _given(dsn: str) -> dict[str, Any]:
    database = await open_database(dsn)
    async with database.read() as conn:
        await make_log(conn, SIZE, 7)
        *olds, head = await ledger.checkpoints(conn, 0, 10)
        rows = await ledger_entries.entries(conn, None, 0, SIZE)
        stored = await ledger.tiles(conn, [(0, 0), (0, 1), (0, 2), (1, 0)])
        made = {
            "Head": _checkpoint(head.note),
            "Inclusion": [
                {
                    "Index": index,
                    "Leaf": _base64(rows[index]["leaf"]),
                    "Hashes": [_base64(h) for h in await proofs.inclusion(conn, index, SIZE)],
                }
                for index in INDICES
            ],
            "Consistency": [
                {
                    "Old": _checkpoint(old.note),
                    "Hashes": [
                        _base64(h) for h in await proofs.consistency(conn, old.tree_size, SIZE)
                    ],
                }
                for old in olds
            ],
            "Tiles": {f"{level}/{n}": _base64(data) for (level, n), data in stored.items()},
        }
    await database.close()
    return made


def _checkpoint(note: str, keys: KeyRing = KEYS) -> dict[str, Any]:
    return {"Note": note, "Keys": [key.encode() for key in keys.trusted(ORIGIN)]}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_what_we_wrote_holds_for_an_implementation_that_is_not_ours(
    program: Path, given: dict[str, Any]
) -> None:
    ended = run(program, given)
    assert ended == Ended(0, "10 inclusion and 6 consistency proofs hold\n")


def flipped(text: str) -> str:
    data = bytearray(base64.b64decode(text))
    data[5] ^= 1
    return _base64(bytes(data))


@pytest.mark.parametrize(
    ("part", "why"),
    [
        (("Inclusion", 3, "Hashes", 1), "inclusion of 256"),
        (("Inclusion", 3, "Leaf"), "inclusion of 256"),
        (("Consistency", 2, "Hashes", 0), "consistency with 300"),
        (("Tiles", "0/1"), "out of our tiles"),
    ],
)
def test_it_refuses_what_does_not_hold(
    part: tuple[Any, ...], why: str, program: Path, given: dict[str, Any]
) -> None:
    changed = json.loads(json.dumps(given))
    inner = changed
    for step in part[:-1]:
        inner = inner[step]
    inner[part[-1]] = flipped(inner[part[-1]])
    ended = run(program, changed)
    assert ended.code == 1
    assert why in ended.output


def test_it_refuses_a_key_that_did_not_sign(program: Path, given: dict[str, Any]) -> None:
    stranger = SigningKey(ORIGIN, bytes(32)).verifier.encode()
    head = {"Note": given["Head"]["Note"], "Keys": [stranger]}
    assert run(program, given | {"Head": head}).code == 1


def test_it_reads_a_note_of_two_keys(program: Path, given: dict[str, Any]) -> None:
    both = KeyRing((*KEYS.seeds, bytes(range(32))))
    text, _, _ = given["Head"]["Note"].rpartition("\n\n")

    note = sign(text + "\n", both.signing(ORIGIN))
    assert run(program, given | {"Head": _checkpoint(note, both)}).code == 0
