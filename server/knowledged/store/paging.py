"""Pages of lists: keyset, so that no row is skipped or doubled while others insert."""

from dataclasses import dataclass
from typing import LiteralString

from knowledged.store.filter_sql import Condition

Position = tuple[object, object]


@dataclass(frozen=True, slots=True)
class Order:
    """What a list is ordered by: a column with its type, and the unique column that breaks ties."""

    column: LiteralString
    type: LiteralString
    tie: LiteralString


@dataclass(frozen=True, slots=True)
class Page:
    """A page of `size` rows after a position (the last row's column and tie), or the first."""

    size: int
    order: Order
    descending: bool = False
    after: Position | None = None

    def statement(
        self, select: LiteralString, condition: Condition, bound: int
    ) -> tuple[str, list[object]]:
        """The list's SQL with filter, position, order and limit, and the parameters past `bound`.

        `select` ends in a where clause with `bound` parameters; the condition begins at the next.
        One row more than `size` is asked for, to see whether there is a next page.
        """
        parameters = [*condition.parameters, *(self.after or ()), self.size + 1]
        limit = bound + len(parameters)
        text = (
            f"{select} and ({condition.sql}) {self._past(limit - 2)} {self._ordered()}"
            f" limit ${limit}::int"
        )
        return text, parameters

    def _past(self, first: int) -> str:
        if self.after is None:
            return ""
        o, than = self.order, "<" if self.descending else ">"
        return f"and ({o.column}, {o.tie}) {than} (${first}::{o.type}, ${first + 1}::uuid)"

    def _ordered(self) -> str:
        o, way = self.order, "desc" if self.descending else "asc"
        return f"order by {o.column} {way}, {o.tie} {way}"
