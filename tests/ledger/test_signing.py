"""What is signed goes on from what was signed before, here and elsewhere; else nothing is."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from cluster import DatabaseUrls
from events import KEYS, ORIGIN, sequence_all, sign_head, write_events
from knowledged.connection import Connection, connect
from knowledged.database import Database
from knowledged.ledger.checkpoint import Checkpoint, open_checkpoint
from knowledged.ledger.folder import CheckpointFolder, FolderError, read_notes
from knowledged.ledger.keys import KeyFileError, KeyRing, make_key_file, read_known
from knowledged.ledger.merkle import EMPTY_ROOT
from knowledged.ledger.note import SigningKey
from knowledged.ledger.signing import Refused
from knowledged.store import ledger

NEW_KEYS = KeyRing((b"another key to sign with, tests!",))


@pytest.fixture
async def conn(database: Database) -> AsyncIterator[Connection]:
    async with database.read() as opened:
        yield opened


async def grow(conn: Connection, count: int) -> None:
    await write_events(conn, count)
    await sequence_all(conn)


async def tamper(urls: DatabaseUrls, statement: str) -> None:
    admin = await connect(urls.superuser_dsn)
    await admin.execute(statement)
    await admin.close()


async def test_a_checkpoint_is_signed_once_for_each_size(conn: Connection) -> None:
    empty = await sign_head(conn)
    assert empty is not None
    assert (empty.tree_size, empty.root) == (0, EMPTY_ROOT)
    assert await sign_head(conn) is None
    await grow(conn, 3)
    first = await sign_head(conn)
    assert first is not None
    opened = open_checkpoint(first.note, KEYS.trusted(ORIGIN), ORIGIN)
    assert opened == Checkpoint(ORIGIN, 3, first.root)
    assert await sign_head(conn) is None
    await grow(conn, 300)
    second = await sign_head(conn)
    assert second is not None
    assert second.tree_size == 303
    assert [each.tree_size for each in await ledger.checkpoints(conn, -1, 10)] == [0, 3, 303]


async def test_nothing_is_signed_behind_a_checkpoint_that_is_known_outside(
    conn: Connection,
) -> None:
    await grow(conn, 5)
    outside = Checkpoint(ORIGIN, 6, bytes(32)).signed(KEYS.signing(ORIGIN))
    with pytest.raises(Refused, match="6 leaves is known, and the log has only 5"):
        await sign_head(conn, outside=[outside])
    assert await ledger.latest_checkpoint(conn) is None


async def test_nothing_is_signed_beside_a_checkpoint_that_is_known_outside(
    conn: Connection,
) -> None:
    await grow(conn, 5)
    outside = Checkpoint(ORIGIN, 4, bytes(32)).signed(KEYS.signing(ORIGIN))
    with pytest.raises(Refused, match="does not begin"):
        await sign_head(conn, outside=[outside])


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        (
            "update knowledge.audit_tile set hashes = set_byte(hashes, 3, 0) where level = 0",
            "another root than the state",
        ),
        ("delete from knowledge.audit_tile", "has no"),
        ("update knowledge.audit_state set compact_range = ''", "no compact range"),
        ("update knowledge.audit_state set tree_size = 3", "the log has only 3"),
        (
            "update knowledge.audit_checkpoint set note = replace(note, E'\\n5\\n', E'\\n4\\n')",
            "an earlier checkpoint cannot be trusted",
        ),
        ("delete from knowledge.audit_state", "has lost its row"),
    ],
)
async def test_a_tree_that_was_tampered_with_is_not_signed(
    conn: Connection, database_urls: DatabaseUrls, statement: str, why: str
) -> None:
    await grow(conn, 5)
    await sign_head(conn)
    await grow(conn, 2)
    await tamper(database_urls, statement)
    with pytest.raises(Exception, match=why):
        await sign_head(conn)


async def test_a_new_key_comes_in_beside_the_old_one(conn: Connection) -> None:
    both = KeyRing((*NEW_KEYS.seeds, *KEYS.seeds))
    for keys in (KEYS, both):
        await grow(conn, 2)
        assert await sign_head(conn, keys)
    await grow(conn, 2)
    last = await sign_head(conn, NEW_KEYS)
    assert last is not None
    open_checkpoint(last.note, NEW_KEYS.trusted(ORIGIN))


async def test_an_old_key_that_nobody_names_stops_the_signing(conn: Connection) -> None:
    await grow(conn, 2)
    await sign_head(conn)
    await grow(conn, 2)
    with pytest.raises(Refused, match=r"no known key signed it.*KNOWN_KEYS_FILE"):
        await sign_head(conn, NEW_KEYS)
    known = KeyRing(NEW_KEYS.seeds, tuple(KEYS.trusted(ORIGIN)))
    assert await sign_head(conn, known)


def test_a_key_file_holds_pem_and_lines_of_notes(tmp_path: Path) -> None:
    file, known = tmp_path / "audit.key", tmp_path / "known"
    make_key_file(file)
    made = file.read_text()
    make_key_file(file)
    assert file.read_text() == made
    assert file.stat().st_mode & 0o777 == 0o600
    line = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
    file.write_text(f"{made}\n{line}\n")
    key = SigningKey("old.example", bytes(32)).verifier
    known.write_text(f"# the one of last year\n\n{key.encode()}\n")
    ring = KeyRing.read(file, known)
    assert len(ring.seeds) == 2
    assert len(ring.trusted("log.example")) == 2
    assert ring.trusted("old.example")[-1] == key
    assert made not in repr(ring)


def test_a_key_file_that_is_none_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "audit.key"
    ec = generate_private_key(SECP256R1())
    pem = ec.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    for text, why in [
        ("", "holds no private key"),
        (pem, "is not Ed25519"),
        (pem.replace("M", "N"), "cannot be read"),
        ("PRIVATE+KEY+a+00000000+AAAA", "cannot be read"),
    ]:
        file.write_text(text)
        with pytest.raises(KeyFileError, match=why):
            KeyRing.read(file, None)
    with pytest.raises(KeyFileError, match="FileNotFoundError"):
        KeyRing.read(tmp_path / "none", None)
    file.write_text("no key")
    with pytest.raises(KeyFileError):
        read_known(file)


def note_of(size: int, origin: str = ORIGIN) -> str:
    return Checkpoint(origin, size, bytes(32)).signed(KEYS.signing(origin))


def test_a_folder_keeps_every_checkpoint_and_the_latest(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path / "kept")
    assert folder.latest() is None
    for size in (3, 5, 4):
        folder.keep(note_of(size))
    assert folder.latest() == note_of(5)
    assert read_notes(folder.path) == [note_of(3), note_of(5), note_of(4)]
    assert read_notes(folder.path / "checkpoint") == [note_of(5)]
    folder.keep(note_of(2, "new.example"))
    assert folder.latest() == note_of(2, "new.example")


def test_what_holds_no_checkpoints_is_told(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="holds no checkpoints"):
        read_notes(tmp_path)
    file = tmp_path / "checkpoint"
    for text in ("nothing", '{"note": 1', '{"other": ""}', "{}"):
        file.write_text(text)
        with pytest.raises(FolderError, match="holds no checkpoints"):
            read_notes(file)
    with pytest.raises(FolderError, match="cannot be read"):
        read_notes(tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderError, match="cannot be written"):
        CheckpointFolder(tmp_path / "file" / "below").keep(note_of(1))
