"""docs/audit-leaf.md shows bytes that the code writes."""

import re
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from knowledged.audit_leaf import Event, Payload, leaf_hash

PAGE = (Path(__file__).parents[2] / "docs" / "audit-leaf.md").read_text()
EXAMPLE = Event(
    event_id=UUID("019ab5e2-7c00-7abc-8def-0123456789ab"),
    occurred_at=datetime(2025, 11, 24, 12, 0, 0, 123456, tzinfo=UTC),
    audit_class=3,
    outcome=1,
    grpc_code=0,
    collection_uid=UUID("019ab5e0-0000-7000-8000-000000000001"),
    result_count=1,
    rpc="/knowledge.v1.KnowledgeService/CreateDocument",
    action="documents.create",
    payload=Payload(
        actor="ann@clinic.example",
        on_behalf_of="",
        purpose="treatment",
        peer="ipv4:127.0.0.1:40000",
        call_id="019ab5e2-7bff-7000-8000-000000000002",
        resources=("collections/leaflets/documents/hypertension",),
        subject_ids=("patient-7",),
    ),
    salt=bytes(range(32)),
)


def column_of(heading: str) -> bytes:
    """The last column of the table under a heading, as bytes."""
    table = PAGE.partition(f"\n{heading}:\n")[2].lstrip().partition("\n\n")[0]
    return bytes.fromhex("".join(re.findall(r"`([0-9a-f ]+)` \|$", table, re.MULTILINE)))


def test_the_pages_payload_is_the_one_the_code_writes() -> None:
    assert column_of("The payload") == EXAMPLE.payload.encode()


def test_the_pages_leaf_is_the_one_the_code_writes() -> None:
    assert column_of("The leaf") == EXAMPLE.leaf()


def test_the_pages_salt_and_hash_are_the_examples() -> None:
    assert f"random: `{EXAMPLE.salt.hex()}`" in PAGE
    assert f"The leaf hash: `{leaf_hash(EXAMPLE.leaf()).hex()}`" in PAGE
