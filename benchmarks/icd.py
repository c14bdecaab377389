"""ICD-10-CM: codes with their descriptions, and inclusion terms as questions with known answers.

It comes in the PyPI package simple-icd-10-cm; the text is in the public domain (CDC, NCHS).
"""

import importlib
import random
import warnings
from collections.abc import Iterator
from functools import cache
from typing import Any

# Every code that has an inclusion term, and others to a round number: 46,920 would take a quarter
# of an hour to embed.
MOST_CODES = 16_000
_SEED = 7


@cache
def _icd() -> Any:
    """The package, loaded late: it reads its data by a way that Python warns of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return importlib.import_module("simple_icd_10_cm")


def codes() -> list[str]:
    """Categories and subcategories without those that only add a seventh character, in order.

    Those with inclusion terms, and others drawn with a fixed seed.
    """
    # A block of one category has its code: each once.
    whole = [c for c in dict.fromkeys(_icd().get_all_codes(True)) if _is_whole(c)]
    kept = {code for code in whole if inclusion_terms(code)}
    others = [code for code in whole if code not in kept]
    kept.update(random.Random(_SEED).sample(others, MOST_CODES - len(kept)))
    return [code for code in whole if code in kept]


def further_codes(count: int) -> list[str]:
    """So many codes that `codes` leaves out, seventh characters among them, drawn with the seed."""
    kept = set(codes())
    others = [code for code in dict.fromkeys(_icd().get_all_codes(True)) if code not in kept]
    return random.Random(_SEED).sample(others, count)


def text(code: str) -> str:
    """Such as "E11.9 Type 2 diabetes mellitus without complications"."""
    return f"{code} {_icd().get_description(code)}"


def inclusion_terms(code: str) -> list[str]:
    return _icd().get_inclusion_term(code)


def questions() -> Iterator[tuple[str, str]]:
    """Pairs of an inclusion term and its code; a code's own description is no question."""
    for code in codes():
        description = _icd().get_description(code).lower()
        for term in inclusion_terms(code):
            if term.lower() != description:
                yield term, code


def _is_whole(code: str) -> bool:
    return _icd().is_category_or_subcategory(code) and not _icd().is_extended_subcategory(code)
