"""Random filters and rows over few keys and values, so that they meet often; filters as text."""

from datetime import datetime
from typing import Any

from hypothesis import strategies as st

from filter_promise import ORDER
from knowledged.filters.instants import instant
from knowledged.filters.syntax import (
    And,
    Comparison,
    Expression,
    Has,
    HasPrefix,
    Not,
    Or,
    Present,
    Term,
)

KEYS = st.sampled_from(["a", "a", "a", "b", "0", "a.b", "é'\"", ""])
TEXTS = st.sampled_from(["a", "b", "0", "5", "B", "é", "😀", "", "x' or true --", "\\"])
NUMBERS = st.sampled_from([0, -1.5, 1, 1.0, 5, 0.1, 1e300, 5e-324, 2.0**53])
SCALARS = TEXTS | NUMBERS | st.booleans()
INSTANT_TEXT_CHOICES = [
    "2024-02-29T12:00:00Z",
    "2024-02-29T13:00:00+01:00",
    "2024-02-29T12:00:00.000001Z",
    "2024-02-29t12:00:00.0000010z",
    "1969-12-31T23:59:59.999999-08:00",
]
INSTANT_TEXTS = st.sampled_from(INSTANT_TEXT_CHOICES)
# What tells one JSON type from another; at a, and at a.a, in every example.
TELLING = [
    None,
    1,
    5,
    "1",
    "5",
    "a",
    "B",
    True,
    False,
    "",
    [],
    {},
    ["a"],
    [5],
    [True],
    [[5]],
    [None],
]
TELLING += ["2024-02-29T12:00:00Z", "2024-02-30T12:00:00Z", "2024-02-29T11:59:60Z"]
TELLING += [{"a": None}, {"a": 1}, {"b": "a"}, {"a": ["a"]}, {"a": {"a": None}}, {"5": 1}, ["B", 1]]
TELLING_ROWS = [{"metadata": {"a": value}} for value in TELLING]
TELLING_ROWS += [{"metadata": {"a": {"a": value}}} for value in TELLING]
UIDS = st.sampled_from([f"0199{n:04x}-0000-7000-8000-00000000000a" for n in range(3)])
DOCUMENTS = st.recursive(
    st.none() | SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)
METADATA = st.builds(
    lambda loose, declared: {**loose, **declared},
    st.dictionaries(KEYS, DOCUMENTS, max_size=4),
    st.fixed_dictionaries(
        {},
        optional={
            "name": TEXTS | DOCUMENTS,
            "year": NUMBERS | DOCUMENTS,
            "open": st.booleans() | DOCUMENTS,
            "seen": INSTANT_TEXTS | DOCUMENTS,
            "codes": st.lists(TEXTS, max_size=2) | DOCUMENTS,
        },
    ),
)
ROWS = st.fixed_dictionaries(
    {"metadata": METADATA},
    optional={
        "title": TEXTS,
        "size": NUMBERS,
        "reviewed": st.booleans(),
        "create_time": INSTANT_TEXTS,
        "uid": UIDS,
        "state": st.sampled_from([1, 2]),
        "subject_ids": st.lists(TEXTS, max_size=2),
        "labels": st.dictionaries(KEYS, TEXTS, max_size=2),
    },
)


def one_or_some(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return values | st.lists(values, max_size=3).map(tuple)


def terms_of(
    path: st.SearchStrategy[tuple[str, ...]],
    values: st.SearchStrategy[Any],
    ordering: st.SearchStrategy[Any] | None = None,
) -> st.SearchStrategy[Expression]:
    """Every term that a field with these values takes."""
    at = st.just(1)
    equality = st.sampled_from(["=", "!="])
    terms: list[st.SearchStrategy[Expression]] = [
        st.builds(Comparison, path, equality, one_or_some(values) | st.none(), at, at),
        st.builds(Has, path, one_or_some(values), at, at),
        st.builds(Present, path, at),
    ]
    if ordering is not None:
        terms.append(st.builds(Comparison, path, st.sampled_from(list(ORDER)), ordering, at, at))
    return st.one_of(terms)


def only_has(path: tuple[str, ...], keys: st.SearchStrategy[str]) -> st.SearchStrategy[Expression]:
    at = st.just(1)
    return st.builds(Has, st.just(path), one_or_some(keys), at, at) | st.just(Present(path, 1))


FLOATS = NUMBERS.map(float)
DYNAMIC_PATHS = st.lists(KEYS, min_size=1, max_size=3).map(lambda keys: ("metadata", *keys))
TELLING_PATHS = st.sampled_from([("metadata", "a"), ("metadata", "a", "a")])
TELLING_NUMBERS = st.sampled_from([1.0, 5.0])
DYNAMIC_VALUES = TEXTS | FLOATS | st.booleans()
INSTANTS = INSTANT_TEXTS.map(instant)


def texts_at(*paths: tuple[str, ...]) -> st.SearchStrategy[Expression]:
    """Every term of a field of strings."""
    path, at = st.sampled_from(paths), st.just(1)
    begins = st.builds(HasPrefix, path, TEXTS, at, at)
    return terms_of(path, TEXTS, TEXTS) | begins


def instants_at(*paths: tuple[str, ...]) -> st.SearchStrategy[Expression]:
    """Comparisons with timestamp(...)."""
    path, at = st.sampled_from(paths), st.just(1)
    return st.builds(Comparison, path, st.sampled_from(["=", "!=", *ORDER]), INSTANTS, at, at)


# Of what every resource has: labels, subject_ids, and metadata, undeclared and declared.
SHARED_TERMS = (
    terms_of(DYNAMIC_PATHS, DYNAMIC_VALUES, TEXTS | FLOATS),
    terms_of(TELLING_PATHS, DYNAMIC_VALUES, TEXTS | FLOATS),
    terms_of(TELLING_PATHS, TELLING_NUMBERS, TELLING_NUMBERS),
    st.builds(HasPrefix, TELLING_PATHS, TEXTS, st.just(1), st.just(1)),
    instants_at(("metadata", "a"), ("metadata", "a", "a"), ("metadata", "seen")),
    texts_at(("labels", "a"), ("labels", "a.b"), ("labels", ""), ("metadata", "name")),
    terms_of(st.just(("metadata", "year")), FLOATS, FLOATS),
    terms_of(st.just(("metadata", "open")), st.booleans()),
    terms_of(st.just(("metadata", "seen")), INSTANT_TEXTS, INSTANT_TEXTS),
    only_has(("subject_ids",), TEXTS),
    only_has(("metadata", "codes"), TEXTS),
    only_has(("labels",), KEYS),
    only_has(("metadata",), KEYS),
)
IMAGINARY_TERMS = (
    texts_at(("title",)),
    terms_of(st.just(("size",)), FLOATS, FLOATS),
    terms_of(st.just(("reviewed",)), st.booleans()),
    terms_of(st.just(("create_time",)), INSTANT_TEXTS, INSTANT_TEXTS),
    instants_at(("create_time",)),
    terms_of(st.just(("uid",)), UIDS),
    terms_of(st.just(("state",)), st.sampled_from(["PENDING", "ACTIVE"])),
)
DOCUMENT_TERMS = (
    texts_at(("title",), ("document_id",), ("source_uri",)),
    terms_of(st.just(("revision",)), FLOATS, FLOATS),
    terms_of(st.sampled_from([("create_time",), ("delete_time",)]), INSTANT_TEXTS, INSTANT_TEXTS),
    instants_at(("update_time",)),
    terms_of(st.just(("origin",)), st.sampled_from(["SERVER", "CALLER"])),
    terms_of(st.just(("state",)), st.sampled_from(["PENDING", "ACTIVE", "FAILED"])),
)


def expressions(*terms: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    return st.recursive(
        st.one_of(*terms),
        lambda inner: st.one_of(
            st.lists(inner, min_size=2, max_size=3).map(lambda parts: And(tuple(parts))),
            st.lists(inner, min_size=2, max_size=3).map(lambda parts: Or(tuple(parts))),
            st.builds(Not, inner),
        ),
        max_leaves=6,
    )


class Writing:
    """Writes a filter as text; every other value is bound, lists always."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self._written = 0

    def expression(self, node: Expression, inside: str = "") -> str:
        """`inside` tells which composite the node stands in: OR needs no parentheses in AND."""
        match node:
            case And(parts):
                text = " AND ".join(self.expression(part, "and") for part in parts)
                return f"({text})" if inside else text
            case Or(parts):
                text = " OR ".join(self.expression(part, "or") for part in parts)
                return f"({text})" if inside in ("or", "not") else text
            case Not(part):
                text = f"NOT {self.expression(part, 'not')}"
                return f"({text})" if inside == "not" else text
            case _:
                return self._term(node)

    def _term(self, node: Term) -> str:
        match node:
            case Comparison(path, operator, value):
                return f"{self._path(path)} {operator} {self._value(value)}"
            case Has(path, value):
                return f"{self._path(path)}:{self._value(value)}"
            case HasPrefix(path, prefix):
                return f"has_prefix({self._path(path)}, {self._value(prefix)})"
            case Present(path):
                return f"{self._path(path)}:*"

    def _path(self, path: tuple[str, ...]) -> str:
        return ".".join(key if key.isascii() and key.isalnum() else quoted(key) for key in path)

    def _value(self, value: Any) -> str:
        self._written += 1
        if isinstance(value, datetime):
            return f"timestamp({self._value(value.isoformat())})"
        if isinstance(value, tuple) or self._written % 2:
            name = f"v{self._written}"
            self.values[name] = list(value) if isinstance(value, tuple) else value
            return f"@{name}"
        return quoted(value) if isinstance(value, str) else literal(value)


def quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def literal(value: float | bool | None) -> str:
    words = {True: "true", False: "false", None: "null"}
    return words[value] if value is None or isinstance(value, bool) else repr(value)
