"""Former contents: what an edit changed, and the whole back from it."""

import random
from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from knowledged.store.content_parts import Kept, Part, kept, whole

TEXTS = st.text(st.sampled_from("ab🩺\n"), max_size=12)


def part(old: str, new: str) -> Part:
    """What the store keeps of `old`, by SQL, once `new` follows."""
    ends = kept(old, new) or Kept(len(old), 0)
    return Part(old[ends.head : len(old) - ends.tail], ends.head, ends.tail)


@given(st.lists(TEXTS, min_size=1, max_size=8))
@example(["aa", "a", "aaa"])
@example(["", "a", ""])
def test_every_former_content_comes_back(contents: list[str]) -> None:
    parts = [part(old, new) for old, new in pairwise(contents)]
    current = Part(contents[-1], 0, 0)
    for revision, content in enumerate(contents):
        assert whole([current, *reversed(parts[revision:])]) == content


def test_an_equal_content_keeps_nothing_apart() -> None:
    assert kept("the same", "the same") is None


def test_an_edit_in_the_middle_keeps_both_ends() -> None:
    assert kept("one two three", "one 2 three") == Kept(4, 6)
    assert kept("one two", "one two three") == Kept(7, 0)
    assert kept("two three", "one two three") == Kept(0, 9)
    assert kept("abc", "xyz") == Kept(0, 0)


def test_a_word_of_a_long_text_is_found_wherever_it_stands() -> None:
    words = [str(random.Random(7).random()) for _ in range(50_000)]
    for place in (0, 1, 25_000, 49_999):
        changed = [*words[:place], "another word", *words[place + 1 :]]
        assert len(part(" ".join(words), " ".join(changed)).text) <= len(words[place])
