"""Signed notes and checkpoints: the published example, good ones, and every way to be bad."""

import base64

import pytest

from knowledged.ledger.checkpoint import (
    Checkpoint,
    CheckpointError,
    open_checkpoint,
    read_unverified,
)
from knowledged.ledger.note import (
    NoteError,
    SigningKey,
    VerifierKey,
    check_name,
    open_note,
    private_seed,
    sign,
)

# The example of Go's golang.org/x/mod/sumdb/note.
NEUMANN = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
NEUMANN_PRIVATE = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
NEUMANN_NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqd"
    "ngotpRZb6KE6RyyBwJnAM=\n"
)
KEY = SigningKey("log.example/audit", bytes(range(32)))
OTHER = SigningKey("log.example/audit", bytes(range(1, 33)))
CHECKPOINT = Checkpoint("log.example/audit", 7, bytes(range(32)))


def test_the_published_note_opens() -> None:
    opened = open_note(NEUMANN_NOTE, [VerifierKey.parse(NEUMANN)])
    assert opened.text.startswith("If you think cryptography")
    assert [key.name for key in opened.signed_by] == ["PeterNeumann"]


def test_the_published_key_signs_the_published_note() -> None:
    key = SigningKey("PeterNeumann", private_seed(NEUMANN_PRIVATE))
    assert key.verifier.encode() == NEUMANN
    text, _, _ = NEUMANN_NOTE.rpartition("\n\n")
    assert sign(text + "\n", [key]) == NEUMANN_NOTE


def test_a_key_is_not_shown() -> None:
    assert "seed" not in repr(KEY)


def test_a_note_of_two_keys_opens_with_either() -> None:
    note = CHECKPOINT.signed([KEY, OTHER])
    for known in ([KEY.verifier], [OTHER.verifier]):
        assert open_checkpoint(note, known) == CHECKPOINT
    both = open_note(note, [KEY.verifier, OTHER.verifier])
    assert both.signed_by == (KEY.verifier, OTHER.verifier)


def test_a_signature_of_an_unknown_key_is_passed_over() -> None:
    stranger = SigningKey("witness.example", bytes(32))
    note = CHECKPOINT.signed([stranger, KEY])
    assert open_checkpoint(note, [KEY.verifier]) == CHECKPOINT


def changed(note: str, old: str, new: str) -> str:
    assert old in note
    return note.replace(old, new, 1)


GOOD = CHECKPOINT.signed([KEY])


@pytest.mark.parametrize(
    ("note", "why"),
    [
        (changed(GOOD, "\n7\n", "\n8\n"), "the signature of log.example/audit does not hold"),
        (changed(GOOD, "\n\n", "\n"), "it is no signed note"),
        (GOOD[:-1], "it is no signed note"),
        (changed(GOOD, "— ", "- "), "a signature line is malformed"),
        (changed(GOOD, "— log.example/audit ", "— log.example/audit !"), "base64 is malformed"),
        (changed(GOOD, "log.example", "log\texample"), "no other control character"),
        (GOOD + "— x\n" * 101, "at most 100 signatures"),
        ("x" * 70_000, "at most 65536 bytes"),
        (GOOD + f"— a+b {base64.b64encode(bytes(68)).decode()}\n", "without '\\+'"),
        (GOOD + f"— a {base64.b64encode(bytes(4)).decode()}\n", "a signature line is malformed"),
    ],
)
def test_a_bad_note_is_refused_with_its_reason(note: str, why: str) -> None:
    with pytest.raises(NoteError, match=why):
        open_note(note, [KEY.verifier])


def test_a_note_that_only_others_signed_is_refused() -> None:
    with pytest.raises(CheckpointError, match="no known key signed it"):
        open_checkpoint(GOOD, [OTHER.verifier])


def test_a_checkpoint_of_another_origin_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"of the log log\.example/audit, not of other"):
        open_checkpoint(GOOD, [KEY.verifier], "other.example")


def test_a_key_signs_for_its_own_origin_only() -> None:
    foreign = SigningKey("other.example", bytes(32))
    note = CHECKPOINT.signed([foreign])
    with pytest.raises(CheckpointError, match="no known key signed it"):
        open_checkpoint(note, [foreign.verifier])


@pytest.mark.parametrize(
    "text",
    [
        "origin\n1\n",
        "\n1\nAAAA\n",
        "origin\n01\nAAAA\n",
        "origin\n-1\nAAAA\n",
        "origin\n1\n\n",
        "origin\n1\nAAAA\n",
        "origin\n1\n!\n",
    ],
)
def test_a_text_that_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(CheckpointError):
        Checkpoint.parse(text)


def test_lines_that_follow_a_checkpoint_are_passed_over() -> None:
    assert Checkpoint.parse(CHECKPOINT.text() + "more\n") == CHECKPOINT
    with pytest.raises(CheckpointError, match="no signed note"):
        read_unverified("nothing")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name",
        "name+00000000",
        "name+00000000+AAAA",
        NEUMANN.replace("c74f20a3", "c74f20a4"),
        NEUMANN.replace("PeterNeumann", "PeterNewman"),
        NEUMANN.replace("+AR", "+!R"),
    ],
)
def test_a_text_that_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(NoteError):
        VerifierKey.parse(text)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb"])
def test_what_cannot_name_a_key_is_refused(name: str) -> None:
    with pytest.raises(NoteError, match="a key's name"):
        check_name(name)


def test_a_public_key_is_no_private_one() -> None:
    with pytest.raises(NoteError, match="no private key"):
        private_seed(NEUMANN)
