"""How a former revision's content is kept: as what the next revision changed of it.

An edit in the middle leaves the beginning and the end alone. So a former revision stores how many
characters (code points) it shares with the next one at either end, and the part between them. The
whole comes back by going from a whole content to older ones, part by part.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

End = Callable[[str, int], str]


@dataclass(frozen=True, slots=True)
class Kept:
    """How many characters the next revision kept, at the beginning and at the end."""

    head: int
    tail: int


@dataclass(frozen=True, slots=True)
class Part:
    """What a revision holds of its content: the whole of it if `head` and `tail` are 0."""

    text: str
    head: int
    tail: int


def kept(old: str, new: str) -> Kept | None:
    """What `new` keeps of `old`; None if they are equal."""
    if old == new:
        return None
    most = min(len(old), len(new))
    head = _shared(old, new, lambda text, length: text[:length], most)
    tail = _shared(old, new, lambda text, length: text[len(text) - length :], most - head)
    return Kept(head, tail)


def whole(parts: Sequence[Part]) -> str:
    """The content of the last of these revisions; the first holds its content whole."""
    return reduce(_before, parts, "")


def _before(newer: str, part: Part) -> str:
    return newer[: part.head] + part.text + newer[len(newer) - part.tail :]


def _shared(old: str, new: str, end: End, most: int) -> int:
    """The greatest length at which both have the same end, by halving: slices compare fast."""
    least = 0
    while least < most:
        middle = (least + most + 1) // 2
        if end(old, middle) == end(new, middle):
            least = middle
        else:
            most = middle - 1
    return least
