"""An export is verified with nothing but public keys and kept checkpoints, however it is broken."""

import base64
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster import Cluster, open_database
from events import KEYS, ORIGIN, make_log
from knowledged.audit_leaf import leaf_hash
from knowledged.ledger import proofs
from knowledged.ledger.checkpoint import Checkpoint
from knowledged.ledger.database_verification import entry_of
from knowledged.ledger.export import ExportError, Header, Writer
from knowledged.ledger.export_verification import CHECKS, ExportVerification
from knowledged.ledger.merkle import EMPTY_ROOT
from knowledged.ledger.note import VerifierKey
from knowledged.ledger.verifier import Report
from knowledged.store import ledger, ledger_entries
from tampering_acts import OTHER_KEYS

SIZE = 300
Lines = list[bytes]


class Exported:
    """The lines of the whole log and of its second half, and the notes of its checkpoints."""

    def __init__(self, whole: Lines, half: Lines, notes: list[str]) -> None:
        self.whole = whole
        self.half = half
        self.notes = notes


@pytest.fixture(scope="module")
def exported(postgres: Cluster, migrated_template: str) -> Iterator[Exported]:
    name = postgres.create(migrated_template)
    yield postgres.run(_export(postgres.urls(name).server_dsn))
    postgres.drop(name)


async def _export(dsn: str) -> Exported:
    database = await open_database(dsn)
    async with database.read() as conn:
        await make_log(conn, SIZE)
        notes = [kept.note for kept in await ledger.checkpoints(conn, 0, 10)]
        whole, half = [await _lines(conn, start, notes[-1]) for start in (0, SIZE // 2)]
    await database.close()
    return Exported(whole, half, notes)


async def _lines(conn: Any, start: int, note: str) -> Lines:
    before = await proofs.compact_range(conn, start)
    rows = await ledger_entries.entries(conn, None, start, SIZE)
    writer = Writer()
    header = writer.header(Header(ORIGIN, start, SIZE, True, before.encode(), note))
    lines = writer.lines(map(entry_of, rows))
    return (header + lines + writer.manifest()).splitlines(keepends=True)


def verify(
    lines: Lines,
    notes: Sequence[str] = (),
    keys: Callable[[str], Sequence[VerifierKey]] = KEYS.trusted,
    checks: Sequence[str] = CHECKS,
) -> Report:
    return ExportVerification(keys, notes, checks).run(lines)


def found(report: Report) -> set[str]:
    return {fault.check for fault in report.faults}


def signed_again(lines: Lines) -> Lines:
    """With a manifest that fits."""
    writer = Writer()
    writer.entries = len(lines) - 2
    writer._sha256.update(b"".join(lines[:-1]))
    return [*lines[:-1], writer.manifest()]


def with_field(lines: Lines, place: int, **changed: Any) -> Lines:
    content = json.loads(lines[place]) | changed
    line = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
    return signed_again([*lines[:place], line, *lines[place + 1 :]])


def without(lines: Lines, place: int, *names: str) -> Lines:
    content = {key: value for key, value in json.loads(lines[place]).items() if key not in names}
    line = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
    return signed_again([*lines[:place], line, *lines[place + 1 :]])


def test_an_export_that_nobody_changed_is_good(exported: Exported) -> None:
    for lines, entries in ((exported.whole, SIZE), (exported.half, SIZE // 2)):
        report = verify(lines, exported.notes)
        assert report.faults == []
        assert (report.entries, report.tree_size, report.hidden) == (entries, SIZE, 0)


def test_erased_payloads_and_events_that_are_not_shown_are_no_faults(exported: Exported) -> None:
    erased = without(exported.whole, 5, "salt", "payload", "event")
    report = verify(erased)
    assert (report.faults, report.erased) == ([], 1)
    hidden = json.loads(exported.whole[7])
    partial = without(exported.whole, 7, "leaf", "salt", "payload", "event")
    digest = base64.b64encode(leaf_hash(base64.b64decode(hidden["leaf"]))).decode()
    partial = with_field(partial, 7, leaf_hash=digest)
    assert found(verify(partial)) == {"presence"}
    report = verify(with_field(partial, 0, complete=False))
    assert (report.faults, report.hidden) == ([], 1)


KINDS: dict[str, tuple[Callable[[Lines], Lines], set[str], int]] = {
    "cut off": (lambda x: x[:200], {"file", "end", "kept checkpoints"}, 199),
    "cut off within a line": (
        lambda x: [*x[:200], x[200][:40]],
        {"file", "end", "kept checkpoints"},
        199,
    ),
    "without its manifest": (lambda x: x[:-1], {"file"}, SIZE),
    "with another manifest": (lambda x: [*x[:-1], x[-1].replace(b"a", b"b")], {"file"}, SIZE),
    "with lines behind": (lambda x: [*x, x[-1]], {"file"}, SIZE),
    "two lines swapped": (
        lambda x: signed_again([*x[:50], x[51], x[50], *x[52:]]),
        {"indices", "roots", "kept checkpoints"},
        49,
    ),
    "a line doubled": (
        lambda x: signed_again([*x[:50], x[49], *x[50:]]),
        {"indices", "end", "roots", "kept checkpoints"},
        48,
    ),
    "a line left out": (
        lambda x: signed_again([*x[:50], *x[51:]]),
        {"indices", "end", "kept checkpoints"},
        49,
    ),
    "a leaf of another event": (
        lambda x: with_field(x, 50, leaf=json.loads(x[60])["leaf"]),
        {"leaf", "shown", "payload", "roots", "kept checkpoints"},
        49,
    ),
    "a payload of another event": (
        lambda x: with_field(x, 50, payload=json.loads(x[60])["payload"]),
        {"payload", "shown"},
        49,
    ),
    "what is shown": (
        lambda x: with_field(x, 50, event=json.loads(x[50])["event"] | {"actor": "x"}),
        {"shown"},
        49,
    ),
    "no checkpoint": (lambda x: with_field(x, 0, checkpoint=""), {"signatures"}, 0),
    "another origin": (lambda x: with_field(x, 0, origin="o"), {"signatures"}, 0),
    "another size": (
        lambda x: with_field(x, 0, tree_size=SIZE + 1),
        {"signatures", "end"},
        0,
    ),
    "an entry that is none": (
        lambda x: with_field(x, 50, event_id="x"),
        {"file", "end", "kept checkpoints"},
        49,
    ),
    "a line that is no JSON": (
        lambda x: signed_again([*x[:50], b"{]\n", *x[51:]]),
        {"file", "end", "kept checkpoints"},
        49,
    ),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_broken_export_is_found_and_its_first_index_named(name: str, exported: Exported) -> None:
    change, checks, first = KINDS[name]
    lines = change(list(exported.whole))
    report = verify(lines, exported.notes)
    assert found(report) == checks, report.faults
    assert report.first_bad_index == first
    blind = [check for check in CHECKS if check not in checks]
    assert verify(lines, exported.notes, checks=blind).faults == []


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"", "first line does not say"),
        (b"{}", "first line does not say"),
        (b"[]", "line 1 is no JSON object"),
        (b"\xff\xfe", "line 1 is no JSON object"),
        (b"[" * 100_000, "line 1 is no JSON object"),
        (b'{"format":"knowledged-audit-export/1"}', "first line is no header"),
        (
            b'{"format":"knowledged-audit-export/1","origin":"o","start_log_index":1,'
            b'"tree_size":1,"complete":true,"before":"","checkpoint":""}',
            "no compact range of 1 leaves",
        ),
    ],
)
def test_a_file_that_is_no_export_is_refused(line: bytes, why: str) -> None:
    with pytest.raises(ExportError, match=why):
        verify([line] if line else [])


def test_a_wrong_key_is_told(exported: Exported) -> None:
    report = verify(exported.whole, keys=OTHER_KEYS.trusted)
    assert found(report) == {"signatures"}
    assert "no known key signed it" in report.faults[0].what


def test_a_checkpoint_of_another_log_is_told(exported: Exported) -> None:
    foreign = Checkpoint("other.example", 5, EMPTY_ROOT).signed(KEYS.signing("other.example"))
    report = verify(exported.whole, [foreign])
    assert [fault.what for fault in report.faults] == [
        f"a checkpoint is of the log other.example, not {ORIGIN}"
    ]


def test_a_checkpoint_of_a_larger_log_is_told(exported: Exported) -> None:
    later = Checkpoint(ORIGIN, SIZE + 1, EMPTY_ROOT).signed(KEYS.signing(ORIGIN))
    report = verify(exported.whole, [later])
    assert report.first_bad_index == SIZE
    assert "301 leaves was kept; the log has 300" in report.faults[0].what


@given(st.data())
def test_any_flipped_byte_of_a_line_is_found(exported: Exported, data: st.DataObject) -> None:
    place = data.draw(st.integers(min_value=0, max_value=20))
    line = bytearray(exported.whole[place])
    at = data.draw(st.integers(min_value=0, max_value=len(line) - 2))
    line[at] ^= data.draw(st.integers(min_value=1, max_value=255))
    lines = [*exported.whole[:place], bytes(line), *exported.whole[place + 1 :]]
    try:
        assert verify(lines).faults
    except ExportError:
        assert place == 0
