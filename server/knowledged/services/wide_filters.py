"""Filters that many chunks were found to pass lately: they are not counted again each time.

Callers filter by the same few things over and over. An old answer costs no hit: what the index
leaves short is compared with all.
"""

import time
from collections import OrderedDict
from uuid import UUID

from knowledged.store.filter_sql import Condition

_SECONDS = 60.0
_MOST = 4_096


class WideFilters:
    """Remembers how many passed, by hashes alone: what callers filter by is not kept."""

    def __init__(self) -> None:
        self._known: OrderedDict[int, tuple[float, int]] = OrderedDict()

    def passes(self, space_uid: UUID, condition: Condition) -> int:
        """How many passed when it was counted; 0 if that is not known or long ago."""
        until, passes = self._known.get(_key(space_uid, condition), (0.0, 0))
        return passes if until > time.monotonic() else 0

    def note(self, space_uid: UUID, condition: Condition, passes: int) -> None:
        self._known[_key(space_uid, condition)] = (time.monotonic() + _SECONDS, passes)
        if len(self._known) > _MOST:
            self._known.popitem(last=False)


def _key(space_uid: UUID, condition: Condition) -> int:
    return hash((space_uid, condition.sql, repr(condition.parameters)))
