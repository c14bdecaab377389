"""The commands of the auditor: audit, verify, witness."""

import asyncio
import base64
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import grpc.aio
import pytest
import pytest_asyncio
from command_line import Run

from cluster import DatabaseUrls
from knowledge.v1 import audit_service_pb2 as pb
from knowledge.v1.audit_service_pb2_grpc import AuditServiceStub
from knowledge.v1.document_pb2 import Document
from knowledge.v1.knowledge_service_pb2 import CreateCollectionRequest, CreateDocumentRequest
from knowledge.v1.knowledge_service_pb2_grpc import KnowledgeServiceStub
from knowledged.connection import connect
from knowledged.ledger.checkpoint import read_unverified
from knowledged.ledger.folder import CheckpointFolder
from knowledged.ledger.note import SigningKey
from served import Serve

SEED = b"a key to sign with in all tests!"
KEY_BYTES = b"\x01" + SEED


@dataclass(frozen=True, slots=True)
class Clinic:
    """A server of its own with a few events, all covered by a checkpoint."""

    urls: DatabaseUrls
    target: str
    knowledge: Any
    audit: Any
    key: str
    events: list[str]
    leaf_hash: str

    async def execute(self, statement: str, *arguments: object) -> None:
        admin = await connect(self.urls.superuser_dsn)
        await admin.execute(statement, *arguments)
        await admin.close()

    async def write(self) -> Any:
        """A document; its receipt, once a checkpoint covers it."""
        request = CreateDocumentRequest(parent="collections/c", document=Document(content="a"))
        receipt = (await self.knowledge.CreateDocument(request)).receipt
        await covered(self.audit, receipt.event_id)
        return receipt


async def covered(audit: Any, event_id: str) -> None:
    request = pb.GetInclusionProofRequest(name=f"auditEvents/{event_id}")
    async with asyncio.timeout(15):
        while True:
            try:
                await audit.GetInclusionProof(request)
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.05)
            else:
                return


@pytest_asyncio.fixture(loop_scope="session")
async def clinic(
    only_here: None, serve: Serve, database_urls: DatabaseUrls
) -> AsyncIterator[Clinic]:
    async with (
        serve(database_urls, audit_origin="audit.test/clinic") as running,
        grpc.aio.insecure_channel(f"127.0.0.1:{running.port}") as channel,
    ):
        knowledge: Any = KnowledgeServiceStub(channel)
        audit: Any = AuditServiceStub(channel)
        made = await knowledge.CreateCollection(CreateCollectionRequest(collection_id="c"))
        key = SigningKey("audit.test/clinic", SEED).verifier.encode()
        target, events = f"127.0.0.1:{running.port}", [made.receipt.event_id]
        leaf = made.receipt.leaf_hash.hex()
        clinic = Clinic(database_urls, target, knowledge, audit, key, events, leaf)
        for _ in range(3):
            events.append((await clinic.write()).event_id)
        yield clinic


async def test_an_event_is_proved(knowledged: Run, clinic: Clinic) -> None:
    command = ("audit", "prove", clinic.events[0], "--target", clinic.target)
    told = await knowledged("audit", "key", "--target", clinic.target)
    assert told.output == f"{clinic.key}\n"
    proved = await knowledged(*command, "--key", clinic.key, "--leaf-hash", clinic.leaf_hash)
    assert proved.code == 0, proved
    assert f"event {clinic.events[0]} is leaf 0 of the " in proved.output
    assert "— audit.test/clinic " in proved.output
    trusting = await knowledged(*command)
    assert (trusting.code, "own word is taken" in trusting.errors) == (0, True)


async def test_what_does_not_hold_is_not_proved(knowledged: Run, clinic: Clinic) -> None:
    command = ("audit", "prove", clinic.events[0], "--target", clinic.target)
    other = SigningKey("audit.test/clinic", bytes(32)).verifier.encode()
    for arguments, why in (
        (("--key", other), "no known key signed it"),
        (("--key", clinic.key, "--leaf-hash", "00" * 32), "not the one of the receipt"),
    ):
        ended = await knowledged(*command, *arguments)
        assert (ended.code, why in ended.errors) == (1, True), ended
    ended = await knowledged(*command, "--key", "nonsense")
    assert (ended.code, "key" in ended.errors) == (2, True)


async def test_events_are_listed_and_followed(knowledged: Run, clinic: Clinic) -> None:
    wanted = ("--limit", "2", "--filter", 'action = "documents.create"')
    listed = await knowledged("audit", "list", *wanted, "--target", clinic.target)
    assert listed.code == 0
    assert len(listed.output.splitlines()) == 2
    assert "documents.create" in listed.output
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-u", "-m", "knowledged", "audit", "tail"),
        *("--start", "0", "--target", clinic.target),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(20):
        lines = [(await process.stdout.readline()).decode() for _ in range(4)]
    process.terminate()
    await process.wait()
    assert [line.split()[0] for line in lines] == ["0", "1", "2", "3"]
    assert "collections.create" in lines[0]


async def test_an_export_is_verified_without_a_server(
    knowledged: Run, clinic: Clinic, tmp_path: Path
) -> None:
    file, witness = tmp_path / "log.jsonl", tmp_path / "witness"
    asked = ("--key", clinic.key, "--target", clinic.target)
    kept = await knowledged("witness", witness, "--once", *asked)
    assert kept.code == 0, kept
    made = await knowledged("audit", "export", file, "--target", clinic.target)
    assert made.code == 0, made
    assert file.stat().st_size > 1_000
    assert not file.with_name(".log.jsonl.part").exists()
    verify = ("verify", file, "--key", clinic.key, "--checkpoint", witness)
    good = await knowledged(*verify)
    assert good.code == 0, good
    assert "GOOD" in good.output
    file.write_bytes(file.read_bytes().replace(b"documents.create", b"documents.delete", 1))
    bad = await knowledged(*verify)
    assert bad.code == 1
    assert "BAD  first at index 1" in bad.output
    file.write_text("nothing")
    assert (await knowledged(*verify)).code == 2


async def test_what_cannot_be_verified_ends_with_two(knowledged: Run, tmp_path: Path) -> None:
    key = SigningKey("o", bytes(32)).verifier.encode()
    for arguments, why in (
        ((tmp_path / "none", "--key", key), "No such file"),
        ((tmp_path / "none",), "no key is given"),
        ((tmp_path / "none", "--key", "x"), "key"),
        ((tmp_path / "none", "--key", key, "--checkpoint", tmp_path), "holds no checkpoints"),
        ((), "either an EXPORT or --database"),
        ((tmp_path / "none", "--database", "--key", key), "either an EXPORT or --database"),
    ):
        ended = await knowledged("verify", *arguments)
        assert (ended.code, why in ended.errors) == (2, True), ended


async def test_the_log_is_verified_in_its_database(
    knowledged: Run, clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KNOWLEDGED_DATABASE_URL", clinic.urls.server_dsn)
    good = await knowledged("verify", "--database", "--key", clinic.key)
    assert good.code == 0, good
    by_server = await knowledged("audit", "verify", "--target", clinic.target)
    assert (by_server.code, "GOOD" in by_server.output) == (0, True)
    await clinic.execute(
        "update knowledge.audit_payload set actor = 'x' where event_id = $1",
        UUID(clinic.events[2]),
    )
    named = pb.GetInclusionProofRequest(name=f"auditEvents/{clinic.events[2]}")
    index = (await clinic.audit.GetInclusionProof(named)).log_index
    for arguments in (
        ("verify", "--database", "--key", clinic.key),
        ("audit", "verify", "--target", clinic.target),
    ):
        bad = await knowledged(*arguments)
        assert bad.code == 1
        assert f"BAD  first at index {index}\n" in bad.output
        assert "payload columns: columns differ from the payload: actor" in bad.output
    monkeypatch.setenv("KNOWLEDGED_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/x")
    away = await knowledged("verify", "--database", "--key", clinic.key)
    assert (away.code, "KNOWLEDGED_DATABASE_URL" in away.errors) == (2, True)


async def test_a_witness_keeps_what_goes_on_and_tells_what_does_not(
    knowledged: Run, clinic: Clinic, tmp_path: Path
) -> None:
    look = ("witness", tmp_path, "--once", "--key", clinic.key, "--target", clinic.target)
    first = await knowledged(*look)
    again = await knowledged(*look)
    await clinic.write()
    grown = await knowledged(*look)
    assert [each.code for each in (first, again, grown)] == [0, 0, 0]
    assert again.output.endswith("as before\n")
    folder = CheckpointFolder(tmp_path)
    latest = folder.latest()
    assert latest is not None
    size = read_unverified(latest).tree_size
    forged = SigningKey("audit.test/clinic", SEED)
    wrong = f"audit.test/clinic\n{size - 1}\n{'A' * 43}=\n"
    (tmp_path / "checkpoint").write_text(f"{wrong}\n{forged.signature(wrong)}")
    told = await knowledged(*look)
    assert (told.code, "does not begin" in told.errors) == (1, True), told


async def test_a_restored_log_takes_a_new_name(
    knowledged: Run,
    only_here: None,
    serve: Serve,
    clinic: Clinic,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = ("--key", clinic.key, "--target", clinic.target)
    assert (await knowledged("witness", tmp_path / "kept", "--once", *asked)).code == 0
    key_file = tmp_path / "key"
    key_file.write_text(f"PRIVATE+KEY+x+00000000+{base64.b64encode(KEY_BYTES).decode()}\n")
    monkeypatch.setenv("KNOWLEDGED_DATABASE_URL", clinic.urls.server_dsn)
    monkeypatch.setenv("KNOWLEDGED_AUDIT_KEY_FILE", str(key_file))
    command = ("audit", "new-origin", "audit.test/clinic-2", "--checkpoint", tmp_path / "kept")
    for _ in range(50):
        named = await knowledged(*command)
        if "try again" not in named.errors:
            break
    assert named.code == 0, named
    new_key = SigningKey("audit.test/clinic-2", SEED).verifier.encode()
    assert new_key in named.output
    receipt = await clinic.write()
    proved = await knowledged(
        "audit", "prove", receipt.event_id, "--key", new_key, "--target", clinic.target
    )
    assert proved.code == 0, proved
    ended = await knowledged("witness", tmp_path / "kept", "--once", *asked, "--key", new_key)
    assert (ended.code, "set back or replaced" in ended.errors) == (1, True), ended
    again = await knowledged(*command)
    assert (again.code, "none of the checkpoints" in again.errors) == (2, True), again
    bad = await knowledged("audit", "new-origin", "a b", "--checkpoint", tmp_path / "kept")
    assert (bad.code, "NAME" in bad.errors) == (2, True)
