"""Resource names: what is one, and what its parts are."""

from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from knowledged import names

# A busy machine is no reason to fail.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

IDS = st.text(min_size=1, max_size=names.LONGEST_ID).filter(lambda s: names.id_fault(s) is None)


@unhurried
@given(IDS, IDS, IDS)
def test_names_give_back_the_ids_they_are_made_of(a: str, b: str, c: str) -> None:
    assert names.collection_of(names.collection_name(a)) == (a,)
    assert names.document_of(f"collections/{a}/documents/{b}") == (a, b)
    assert names.chunk_of(f"collections/{a}/documents/{b}/chunks/{c}") == (a, b, c)


@unhurried
@given(st.text(max_size=60))
def test_an_arbitrary_text_is_parsed_or_refused_but_never_fails(text: str) -> None:
    for parse in (names.collection_of, names.document_of, names.chunk_of):
        parts = parse(text)
        assert parts is None or not any(map(names.id_fault, parts))
    names.audit_event_of(text)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "collections",
        "collections/",
        "collections//documents/b",
        "Collections/a",
        "collections/a/",
        "/collections/a",
        "collections/a/documents",
        "collections/a\n",
        "collections/" + "x" * 129,
        "documents/a",
    ],
)
def test_what_is_no_collection_name_is_refused(name: str) -> None:
    assert names.collection_of(name) is None


@pytest.mark.parametrize(
    "name",
    [
        "collections/a",
        "collections/a/documents/",
        "collections/a/chunks/b",
        "collections/a/documents/b/c",
        "collections/a/documents/b/chunks/c",
    ],
)
def test_a_name_of_another_kind_is_no_document_name(name: str) -> None:
    assert names.document_of(name) is None


@pytest.mark.parametrize("good", ["a", "A b", "ä:ö.~", "x" * 128, "山田", "..", "%2F"])
def test_printable_ids_of_up_to_128_characters_are_good(good: str) -> None:
    assert names.id_fault(good) is None


@pytest.mark.parametrize("bad", ["a/b", "/", "\0", "a\tb", "\x7f", "a\u200bb", "\ud800", "\u2028"])
def test_ids_with_other_characters_are_bad(bad: str) -> None:
    fault = names.id_fault(bad)
    assert fault == 'must be printable characters without "/"'


@pytest.mark.parametrize("length", [0, 129, 10_000])
def test_ids_of_other_lengths_are_bad_and_the_fault_says_the_length(length: int) -> None:
    assert (names.id_fault("x" * length) or "").startswith(f"{length} characters")


def test_a_new_id_is_good_and_new() -> None:
    made = {names.new_id() for _ in range(100)}
    assert len(made) == 100
    assert all(names.id_fault(each) is None for each in made)


def test_an_audit_event_name_holds_a_uuid() -> None:
    uid = UUID("01934f5e-7a6b-7c8d-9e0f-123456789abc")
    assert names.audit_event_of(f"auditEvents/{uid}") == uid
    for bad in ("auditEvents/", "auditEvents/x", f"events/{uid}", str(uid), f"auditEvents/{uid}/x"):
        assert names.audit_event_of(bad) is None
