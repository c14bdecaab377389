"""What happens to keys and providers beside any call: noted here, recorded by a worker."""

import asyncio
from dataclasses import dataclass

from knowledged.errors import Code

_MOST_WAITING = 1_000


@dataclass(frozen=True, slots=True)
class Notice:
    """`action` and `resources` as in the audit log; `reason` says why it is no success."""

    action: str
    resources: tuple[str, ...]
    code: Code = Code.OK
    reason: str = ""


class Notices:
    """Waiting notices, in their order. When nobody records them the newest are dropped."""

    def __init__(self) -> None:
        self._waiting: asyncio.Queue[Notice] = asyncio.Queue(_MOST_WAITING)

    def note(self, notice: Notice) -> None:
        if not self._waiting.full():
            self._waiting.put_nowait(notice)

    async def next(self) -> Notice:
        return await self._waiting.get()
