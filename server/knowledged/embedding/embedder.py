"""The seam between the service and whatever turns text into vectors."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Embedder(Protocol):
    """One embedding model, ready to use.

    `model_digest` is the sha256 of the model file in hex, or of a remote model the commit that must
    answer, empty if any may: vectors of two digests do not mix.
    Tokens are counted without the special ones that the model adds to each text; what a text has
    beyond `max_tokens` does not reach its vector.
    """

    @property
    def model_id(self) -> str: ...

    @property
    def model_digest(self) -> str: ...

    @property
    def dimension(self) -> int: ...

    @property
    def max_tokens(self) -> int: ...

    async def embed(
        self, texts: Sequence[str], *, urgent: bool = False, seconds_left: float | None = None
    ) -> NDArray[np.float32]:
        """Embed texts: float32, shape (len(texts), dimension), row i for text i.

        Rows have length 1 (L2); the array is C-contiguous. `urgent` is for someone who waits, such
        as a search: it goes before everything that is not urgent. Nothing is tried again that
        cannot end within `seconds_left`.

        Raises Overloaded when too many texts wait already, Unavailable when the model is away.
        """
        ...

    def count_tokens(self, text: str) -> int:
        """The tokens of the whole text, also those beyond `max_tokens`."""
        ...

    async def close(self) -> None:
        """Release the model. Texts still waiting fail with Unavailable."""
        ...
