"""A list RPC's arguments and its pages: sizes, tokens, filter and order, alike for all lists."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Value

from knowledged.call import Call
from knowledged.checks import Checks
from knowledged.declared_fields import typed
from knowledged.errors import Invalid
from knowledged.filters.language import parse
from knowledged.filters.syntax import Filter
from knowledged.page_token import PageTokens, binding
from knowledged.services.json_struct import json_values
from knowledged.store.collections import Collection
from knowledged.store.documents import DOCUMENT_FIELDS
from knowledged.store.filter_sql import Condition, Fields
from knowledged.store.filter_sql import compile as compile_filter
from knowledged.store.paging import Order, Page, Position

Row = TypeVar("Row")
M = TypeVar("M", bound=Message)

# What is left of the message limit for the parts of an answer that are not its items.
_ROOM_BESIDE_ITEMS = 4096


class ListRequest(Protocol):
    """What every list request has."""

    @property
    def page_size(self) -> int: ...
    @property
    def page_token(self) -> str: ...
    @property
    def filter(self) -> str: ...
    @property
    def filter_values(self) -> Mapping[str, Value]: ...
    def SerializeToString(self, *, deterministic: bool = ...) -> bytes: ...


@dataclass(frozen=True, slots=True)
class PageSizes:
    """How many items a page has: by default, and at most."""

    default: int
    most: int


@dataclass(frozen=True, slots=True)
class Listing(Generic[Row]):
    """One page of a list: what to ask of the store, and how to seal the way to the next page."""

    page: Page
    seal: Callable[[Position], str]
    position: Callable[[Row], Position]

    def fitted(
        self, rows: Sequence[Row], pack: Callable[[Row], M], most_bytes: int
    ) -> tuple[list[M], str]:
        """The page's messages and the next page's token; the page ends early rather than pass
        `most_bytes`, but never before its first item."""
        messages: list[M] = []
        room = most_bytes - _ROOM_BESIDE_ITEMS
        for row in rows[: self.page.size]:
            message = pack(row)
            room -= message.ByteSize() + 8
            if messages and room < 0:
                break
            messages.append(message)
        return messages, self._next(rows, len(messages))

    def _next(self, rows: Sequence[Row], taken: int) -> str:
        return self.seal(self.position(rows[taken - 1])) if taken < len(rows) else ""


@dataclass(frozen=True, slots=True)
class Lists:
    """Reads list requests. One for the server."""

    tokens: PageTokens
    sizes: PageSizes

    def listing(
        self,
        checks: Checks,
        call: Call,
        request: ListRequest,
        orders: Mapping[str, Order],
        order_by: str,
        position: Callable[[Row, str], Position],
    ) -> Listing[Row]:
        """Raises Invalid for a bad size, order or token, with all faults found before.

        A token holds only with the same method, grants and fields; the page's size may change.
        """
        name, descending = _order(checks, orders, order_by)
        size = self.size(checks, request.page_size)
        bound = binding(call.method.path, call.principal.collections, _query(request))
        after = self._after(checks, request.page_token, bound)
        checks.done()
        return Listing(
            Page(size, orders[name], descending, after),
            lambda where: self.tokens.seal(where, bound),  # pyright: ignore[reportArgumentType]
            lambda row: position(row, name),
        )

    def size(self, checks: Checks, asked: int) -> int:
        """How many items a page has."""
        if asked < 0:
            checks.fault("page_size", "is negative")
        return min(asked or self.sizes.default, self.sizes.most)

    def _after(self, checks: Checks, token: str, bound: bytes) -> Position | None:
        if not token:
            return None
        try:
            column, tie = self.tokens.open(token, bound)
        except Invalid as error:
            if checks.violations:
                checks.violations.extend(error.violations)
                return None
            raise
        return column, tie


def parsed_filter(checks: Checks, request: Any) -> Filter | None:
    """The request's filter; its faults go to the checks."""
    try:
        return parse(request.filter, json_values(request.filter_values))
    except Invalid as error:
        checks.violations.extend(error.violations)
        return None


def filter_condition(
    checks: Checks, request: Any, fields: Fields, first_parameter: int
) -> Condition:
    """The request's filter over `fields` as SQL; its faults go to the checks."""
    asked = parsed_filter(checks, request)
    try:
        return compile_filter(asked, fields, first_parameter)
    except Invalid as error:
        checks.violations.extend(error.violations)
        return compile_filter(None, fields, first_parameter)


def document_filter(checks: Checks, request: Any) -> Filter | None:
    """The request's filter over documents; its faults go to the checks, but for those that only
    the types show which the collection declares."""
    filter_condition(checks, request, Fields(DOCUMENT_FIELDS), 1)
    return None if checks.violations else parsed_filter(checks, request)


def document_condition(
    asked: Filter | None, collection: Collection, first_parameter: int
) -> Condition:
    """A filter over a collection's documents as SQL; what the collection declares has its type."""
    return compile_filter(asked, document_fields(collection), first_parameter)


def document_fields(collection: Collection) -> Fields:
    return Fields(DOCUMENT_FIELDS, typed=typed(collection.filter_fields))


def by_attribute(tie: str) -> Callable[[Any, str], Position]:
    """A row's position: its attribute of the order's name, and the one that breaks ties."""
    return lambda row, name: (getattr(row, name), getattr(row, tie))


def _order(checks: Checks, orders: Mapping[str, Order], order_by: str) -> tuple[str, bool]:
    name, _, way = order_by.strip().partition(" ")
    if name not in orders or way.strip() not in ("", "asc", "desc"):
        checks.fault("order_by", f"must be one of {', '.join(orders)}, and may end in ' desc'")
        return next(iter(orders)), False
    return name, way.strip() == "desc"


def _query(request: Any) -> bytes:
    """All that shapes the list: the request without its page."""
    query = type(request)()
    query.CopyFrom(request)
    query.ClearField("page_token")
    query.ClearField("page_size")
    return query.SerializeToString(deterministic=True)
