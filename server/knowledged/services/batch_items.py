"""The items of a batch: what each asks, and what each of them is refused for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from knowledged.call import Call
from knowledged.checks import Checks
from knowledged.errors import DomainError, Invalid, Violation
from knowledged.names import collection_name
from knowledged.store.requests import RequestKey

Given = TypeVar("Given")
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class AskedBatch:
    """A batch as it was asked for: the collection, and a key for each item."""

    call: Call
    collection_id: str
    keys: Sequence[RequestKey]
    validate_only: bool = False
    wait: bool = False


def each(make: Callable[[Given], Made], items: Sequence[Given]) -> list[Made]:
    """What `make` makes of the items; what it raises for any of them is told at once."""
    made: list[Made] = []
    faults: list[tuple[int, DomainError]] = []
    for place, item in enumerate(items):
        try:
            made.append(make(item))
        except DomainError as error:
            faults.append((place, error))
    if faults:
        raise _together(faults)
    return made


def _together(faults: Sequence[tuple[int, DomainError]]) -> DomainError:
    """One error with a violation for each: that of bad fields, if there is one."""
    violations = tuple(v for place, error in faults for v in _violations(place, error))
    errors = [error for _, error in faults]
    if any(isinstance(error, Invalid) for error in errors):
        return Invalid(*violations)
    errors[0].message = f"{len(errors)} items cannot be done; the first: {errors[0].message}"
    errors[0].violations = violations
    return errors[0]


def _violations(place: int, error: DomainError) -> list[Violation]:
    at = f"requests[{place}]"
    if isinstance(error, Invalid):
        return [Violation(f"{at}.{v.field}", v.description) for v in error.violations]
    return [Violation(at, error.message)]


def check_once(checks: Checks, ids: Sequence[str]) -> None:
    """No document twice: its second change would be of a state that nobody has seen."""
    first: dict[str, int] = {}
    for place, document_id in enumerate(ids):
        if first.setdefault(document_id, place) != place:
            checks.fault(
                f"requests[{place}]", f"names the document of requests[{first[document_id]}]"
            )


def check_parent(checks: Checks, at: str, given: str, collection_id: str) -> None:
    if given not in ("", collection_name(collection_id)):
        checks.fault(at, "must be empty or the batch's parent")


def check_bare(checks: Checks, request: object) -> None:
    """What holds for the whole batch stands in it, not in its items."""
    for name in ("request_id", "validate_only", "wait"):
        if getattr(request, name, False):
            checks.fault(name, "must be empty; it is set for the whole batch")
