"""Vectors as callers give them: little-endian float32, checked before anything is stored."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

COSINE = 1

FLOAT16_MAX = 65_504.0
_SURELY_FELT = 1e-6


class VectorMessage(Protocol):
    """The part of knowledge.v1.Vector that is read here."""

    @property
    def f32_le(self) -> bytes: ...
    def WhichOneof(self, oneof_group: str, /) -> str | None: ...


@dataclass(frozen=True, slots=True)
class VectorRule:
    """What a vector of a collection must be: its dimension, and for cosine not the zero vector."""

    dimension: int
    distance: int

    def fault(self, vector: bytes) -> str | None:
        """The rule that a vector breaks; None for a good one.

        The index keeps float16: 7e4 overflows it and a norm of 1e-8 vanishes in it, so finiteness
        and norm are judged after that cast.
        """
        if len(vector) != 4 * self.dimension:
            return f"{len(vector)} bytes; {self.dimension} float32 values take {4 * self.dimension}"
        return self._value_fault(np.frombuffer(vector, "<f4"))

    def faults(self, vectors: Sequence[bytes]) -> list[str | None]:
        """As `fault` of each, in one step for all those that are surely good."""
        if any(len(vector) != 4 * self.dimension for vector in vectors):
            return [self.fault(vector) for vector in vectors]
        values = np.frombuffer(b"".join(vectors), "<f4").reshape(-1, self.dimension)
        with np.errstate(over="ignore", invalid="ignore"):
            squares = np.einsum("ij,ij->i", values, values)
        good = (squares > _SURELY_FELT) & (squares < FLOAT16_MAX**2)
        return [
            None if sure else self.fault(vector) for sure, vector in zip(good, vectors, strict=True)
        ]

    def _value_fault(self, values: NDArray[np.float32]) -> str | None:
        with np.errstate(over="ignore", invalid="ignore"):
            squares = float(values @ values)
        # Between these bounds no value is too large, and one of at most 1900 is large enough.
        if _SURELY_FELT < squares < FLOAT16_MAX**2:
            return None
        if not np.isfinite(values).all():
            return "has a value that is not finite"
        if np.abs(values).max() > FLOAT16_MAX:
            return f"has a value beyond {FLOAT16_MAX:.0f}, the largest that the index holds"
        if self.distance == COSINE and not values.astype(np.float16).any():
            return "is zero or too near to it, which has no direction"
        return None


def bytes_of(floats: list[float]) -> bytes:
    """Values as little-endian float32; those beyond float32 become infinite."""
    with np.errstate(over="ignore"):
        return np.asarray(floats, "<f4").tobytes()
