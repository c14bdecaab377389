"""The vectors of texts that are searched for, kept for a while: many ask the same.

No text is kept, only a keyed hash of it: the texts that people search for are not to be read from
a dump of our memory, nor guessed from it.
"""

import asyncio
import hmac
from collections import OrderedDict
from collections.abc import Sequence

from knowledged.embedding.embedder import Embedder

MOST_KEPT = 4_096

_Vector = asyncio.Future[bytes]


class QueryVectors:
    """Embeds query texts by one model; those that are asked at once are embedded once."""

    def __init__(self, embedder: Embedder, key: bytes, most: int = MOST_KEPT) -> None:
        """`key` is 32 secret bytes; of more than `most` texts the longest unused is forgotten."""
        self._embedder = embedder
        self._key = key
        self._most = most
        self._known: OrderedDict[bytes, _Vector] = OrderedDict()

    async def embed(self, texts: Sequence[str]) -> list[bytes]:
        """A vector for each text, as little-endian float32; unknown ones in one call."""
        names = dict(zip(texts, map(self._name, texts), strict=True))
        unknown = {name: text for text, name in names.items() if name not in self._known}
        self._known.update((name, asyncio.Future()) for name in unknown)
        waiting = {text: self._known[name] for text, name in names.items()}
        for name in names.values():
            self._known.move_to_end(name)
        if unknown:
            await self._learn(unknown)
        return [await self._told(waiting[text], text) for text in texts]

    async def _learn(self, unknown: dict[bytes, str]) -> None:
        """Fills their futures. Where that fails they are cancelled, and nothing of it is kept."""
        mine = {name: self._known[name] for name in unknown}
        try:
            rows = await self._embedder.embed(list(unknown.values()), urgent=True)
            for future, row in zip(mine.values(), rows, strict=True):
                future.set_result(row.tobytes())
        finally:
            for name, future in mine.items():
                if future.cancel() and self._known.get(name) is future:
                    del self._known[name]
            self._forget()

    async def _told(self, future: _Vector, text: str) -> bytes:
        """What another call learns; if that one gave up, learned by ourselves."""
        if not future.done():
            await asyncio.wait([future])
        if future.cancelled():
            return (await self._embedder.embed([text], urgent=True))[0].tobytes()
        return future.result()

    def _forget(self) -> None:
        while len(self._known) > self._most:
            self._known.popitem(last=False)

    def _name(self, text: str) -> bytes:
        """Of the text in one spelling of its spaces, and the model."""
        normal = f"{self._embedder.model_digest}\n{' '.join(text.split())}"
        return hmac.digest(self._key, normal.encode(), "sha256")
