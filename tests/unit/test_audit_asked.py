"""What of a request the audit log keeps, and how what was shown becomes events."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from google.protobuf.message import Message

from knowledge.v1 import chunk_pb2 as ch
from knowledge.v1 import document_pb2 as d
from knowledge.v1 import knowledge_service_pb2 as k
from knowledge.v1 import vector_service_pb2 as v
from knowledged.app import methods
from knowledged.call import Reading
from knowledged.errors import Code
from knowledged.interceptors.asked import Asked
from knowledged.interceptors.occurrence import Occurrence, action_of, events_of
from knowledged.interceptors.refusal_counts import RefusalCounts

NAME = "collections/c/documents/d"


@pytest.mark.parametrize(
    ("message", "names"),
    [
        (k.GetDocumentRequest(name=NAME), (NAME,)),
        (k.ListDocumentsRequest(parent="collections/c"), ("collections/c",)),
        (k.CreateCollectionRequest(collection_id="c"), ("collections/c",)),
        (
            k.CreateDocumentRequest(parent="collections/c", document_id="d"),
            ("collections/c", NAME),
        ),
        (k.UpdateDocumentRequest(document=d.Document(name=NAME, title="collections/x")), (NAME,)),
        (
            v.UpsertChunksRequest(parent=NAME, chunks=[ch.Chunk(chunk_id="x", content="text")]),
            (NAME,),
        ),
        (k.GetDocumentRequest(name="a patient's name"), ()),
        (k.GetDocumentRequest(name="collections/c/documents/" + "d" * 600), ()),
        (k.CreateDocumentRequest(parent="collections/c", document_id="a/b"), ("collections/c",)),
    ],
)
def test_names_are_kept_and_nothing_else(message: Message, names: tuple[str, ...]) -> None:
    assert Asked(b"key")(message, queries=False) == names


def test_a_query_is_hashed_with_a_key() -> None:
    message = v.SearchRequest(collection="collections/c", text="fever")
    (name, one), (_, other) = (Asked(key)(message, queries=True) for key in (b"one", b"other"))
    assert name == "collections/c"
    assert one.split("/")[::2] == ["queries", "5"]
    assert one != other
    assert "fever" not in one


def test_actions_are_those_that_services_give() -> None:
    actions = {method.name: action_of(method) for method in methods().values()}
    assert actions["CreateDocument"] == "documents.create"
    assert actions["UpsertChunks"] == "chunks.upsert"
    assert actions["DeleteCollection"] == "collections.delete"
    assert actions["ListAuditEvents"] == "audit_events.list"
    assert actions["Search"] == "search"


def an_occurrence(*readings: Reading, **fields: object) -> Occurrence:
    made = Occurrence(
        "/x.Y/Z", "y.z", 2, 1, Code.OK, datetime.now(UTC), "ann", "", "", "ipv4:192.0.2.7:1", "id"
    )
    return replace(made, readings=readings, **fields)


def test_an_event_of_several_collections_names_its_own_alone() -> None:
    """Who may see the events of one collection may not know of the others."""
    one, other = uuid4(), uuid4()
    what = an_occurrence(
        Reading(one, ((uuid4(), ()),)),
        Reading(other, ()),
        asked=("collections/a", "collections/ab", "collections/ab/documents/d", "queries/x/1"),
        resolved={one: "a", other: "ab"},
    )
    first, second = events_of(what)
    assert first.payload.resources == ("collections/a", "queries/x/1")
    assert second.payload.resources == (
        "collections/ab",
        "collections/ab/documents/d",
        "queries/x/1",
    )
    assert (first.result_count, second.result_count) == (1, 0)


def test_many_names_are_split_too() -> None:
    names = tuple(f"{NAME}{n:0300d}" for n in range(1_000))
    events = events_of(an_occurrence(asked=names))
    assert tuple(name for each in events for name in each.payload.resources) == names
    assert all(len(each.payload.encode()) < 65_536 for each in events)


def test_a_document_shown_by_many_chunks_is_named_once_and_counted_often() -> None:
    uid = uuid4()
    shown = tuple((uid, ("patient-1",)) for _ in range(500))
    (event,) = events_of(an_occurrence(Reading(None, shown)))
    assert event.payload.returned_uids == (uid,)
    assert (event.result_count, event.payload.subject_ids) == (500, ("patient-1",))


def test_the_table_of_peers_is_bounded() -> None:
    counts = RefusalCounts(clock=lambda: 0.0)
    for number in range(5_000):
        peer = f"ipv6:%5B2001:db8::{number:x}%5D:443"
        counts.add(an_occurrence(peer=peer, code=Code.UNAUTHENTICATED))
    assert counts.taken() == []
    taken = counts.taken(all=True)
    assert len(taken) == 1_001
    assert sum(each.count for each in taken) == 5_000
    assert taken[-1].peer == "others"
    assert counts.taken(all=True) == []


def test_refusals_of_several_rpcs_are_counted_under_none() -> None:
    counts = RefusalCounts()
    counts.add(an_occurrence())
    counts.add(an_occurrence(rpc="/x.Y/Other"))
    (event,) = (event for what in counts.taken(all=True) for event in events_of(what))
    assert (event.rpc, event.result_count, event.payload.peer) == ("", 2, "ipv4:192.0.2.7")
    assert isinstance(event.event_id, UUID)
