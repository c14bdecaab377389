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
    """Embeds query texts; those that are asked of one model at once are embedded once."""

    def __init__(self, key: bytes, most: int = MOST_KEPT) -> None:
        """`key` is 32 secret bytes; of more than `most` texts the longest unused is forgotten."""
        self._key = key
        self._most = most
        self._known: OrderedDict[bytes, _Vector] = OrderedDict()

    async def embed(
        self, embedder: Embedder, texts: Sequence[str], seconds_left: float | None = None
    ) -> list[bytes]:
        """A vector for each text, as little-endian float32; unknown ones in one call."""
        names = {text: self._name(embedder, text) for text in texts}
        unknown = {name: text for text, name in names.items() if name not in self._known}
        self._known.update((name, asyncio.Future()) for name in unknown)
        waiting = {text: self._known[name] for text, name in names.items()}
        for name in names.values():
            self._known.move_to_end(name)
        if unknown:
            await self._learn(embedder, unknown, seconds_left)
        return [await self._told(embedder, waiting[text], text, seconds_left) for text in texts]

    async def _learn(
        self, embedder: Embedder, unknown: dict[bytes, str], seconds_left: float | None
    ) -> None:
        """Fills their futures. Where that fails they are cancelled, and nothing of it is kept."""
        mine = {name: self._known[name] for name in unknown}
        try:
            texts = list(unknown.values())
            rows = await embedder.embed(texts, urgent=True, seconds_left=seconds_left)
            for future, row in zip(mine.values(), rows, strict=True):
                future.set_result(row.tobytes())
        finally:
            for name, future in mine.items():
                if future.cancel() and self._known.get(name) is future:
                    del self._known[name]
            self._forget()

    async def _told(
        self, embedder: Embedder, future: _Vector, text: str, seconds_left: float | None
    ) -> bytes:
        """What another call learns; if that one gave up, learned by ourselves."""
        if not future.done():
            await asyncio.wait([future])
        if future.cancelled():
            rows = await embedder.embed([text], urgent=True, seconds_left=seconds_left)
            return rows[0].tobytes()
        return future.result()

    def _forget(self) -> None:
        while len(self._known) > self._most:
            self._known.popitem(last=False)

    def _name(self, embedder: Embedder, text: str) -> bytes:
        """Of the text in one spelling of its spaces, and the model."""
        model = f"{embedder.model_id}\n{embedder.model_digest}"
        normal = f"{model}\n{' '.join(text.split())}"
        return hmac.digest(self._key, normal.encode(), "sha256")
