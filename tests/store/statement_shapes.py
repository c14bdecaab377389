"""Which statements the server may send: its constants, and those two with a filter's condition.

A condition is known by its form: it must come down to one term by the rules below, so that anything
that is not made of the compiler's constants is left over.
"""

import re
from collections.abc import Iterator

from knowledged.store import documents, search
from test_statements import STATEMENTS

_COLUMN = r"[dk]\.[a-z_]+"
_PARAMETER = r"\?::(?:text|float8|bool|timestamptz|uuid|int2)"
_INSIDE = rf"\([dk]\.(?:metadata|labels)(?: -> {_PARAMETER})*\)"
_FIELD = (
    r'(?:\(\(v\.fields ->> \?::text\) collate "c"\)|\(\(v\.fields -> \?::text\)::\w+\)'
    r"|\(v\.fields -> \?::text\))"
)
_JSON = r"(?:\?::text::jsonb|any\(\?::text\[\]::jsonb\[\]\))"
_TEXT = rf"\({_INSIDE} #>> \?\)"
_INSTANT = (
    rf"\(case when {_TEXT} ~ \?::text and pg_input_is_valid\({_TEXT}, \?\)"
    rf" then {_TEXT}::timestamptz end\)"
)
_TYPED = (
    rf"(?:\(case when jsonb_typeof\({_INSIDE}\) = \?"
    rf" (?:and octet_length\({_INSIDE} #>> \?\) <= \? then {_INSIDE} #>> \?"
    rf"|then {_INSIDE}::\w+"
    rf"|and not jsonb_path_exists\( {_INSIDE}, \?\) then {_INSIDE}) end\))"
)
_SINGLE = rf"(?:{_COLUMN}|{_FIELD}|{_INSTANT}|{_TYPED})"
_ORDER = r"(?:=|<=|>=|<|>)"
_ANY = rf"any\({_PARAMETER}\[\]\)"
_TERMS = re.compile(
    "|".join(
        (
            rf'\({_SINGLE}(?: collate "c")? {_ORDER} (?:{_PARAMETER}|{_ANY})\)',
            rf"\({_SINGLE} is (?:not )?null\)",
            rf'starts_with\({_SINGLE} collate "c", {_PARAMETER}\)',
            rf"\({_COLUMN} && \?::text\[\]\)",
            rf"\((?:{_COLUMN}|{_FIELD}|{_TYPED}) @> {_JSON}\)",
            rf"\((?:{_COLUMN}|{_FIELD}|{_TYPED}) <> \?(?:::text\[\]|::jsonb)\)",
            rf"\(jsonb_typeof\({_INSIDE}\) = \? and {_TEXT} collate \"c\" {_ORDER} {_PARAMETER}\)",
            rf"\(jsonb_typeof\({_INSIDE}\) = \? and {_INSIDE} {_ORDER} {_JSON}\)",
            rf"\(jsonb_typeof\({_INSIDE}\) = \? and"
            rf" starts_with\({_INSIDE} #>> \?, {_PARAMETER}\)\)",
            rf"\(jsonb_typeof\({_INSIDE}\) <> \?\)",
            rf"\(jsonb_strip_nulls\({_INSIDE}\) \?\| \?::text\[\]\)",
        )
    )
)
_COMPOSITES = re.compile(r"\(TERM is not true\)|\(TERM(?: and TERM)+\)|\(TERM(?: or TERM)+\)")
# What asyncpg asks of types that it meets for the first time, and around transactions.
_DRIVER = (
    "with recursive typeinfo_tree",
    "select n.nspname from pg_type t",
    "select t.oid, t.typelem as elemtype",
    "select current_setting(?) as cur, set_config(",
    "select pg_is_in_recovery",
    # By which it copies the ledger's leaves.
    'copy "knowledge"."audit_leaf"(',
    # And new chunks, after the statement that records them.
    'copy "knowledge"."chunk"(',
    'copy "knowledge"."chunk_span"(',
    'copy "knowledge"."chunk_vector"(',
)
# The last is what the pool ends with whatever a cancelled call left begun.
_TRANSACTIONS = frozenset({"begin", "commit", "rollback", "select"})


def is_condition(text: str) -> bool:
    """Whether a normal text is one that the filter compiler may write."""
    text = _TERMS.sub("TERM", text)
    while (shorter := _COMPOSITES.sub("TERM", text)) != text:
        text = shorter
    return text == "TERM"


def normal(sql: str) -> str:
    """In lower case on one line, without comments, with `?` for every parameter and constant."""
    sql = re.sub(r"--[^\n]*|/\*.*?\*/", " ", sql)
    sql = re.sub(r"'(?:[^']|'')*'", "?", sql)
    # The field to extract is a constant to PostgreSQL, though it is written as a name.
    sql = re.sub(r"(?i)extract\(\S+ from", "extract(? from", sql)
    sql = re.sub(r"\$\d+|(?<![\w.])-?\d[\w.]*|(?<!is )(?<!not )\b(?:true|false|null)\b", "?", sql)
    return re.sub(r"\s+", " ", sql.lower()).strip()


def _constants() -> frozenset[str]:
    return frozenset(normal(statement.sql) for statement in STATEMENTS)


def _filtered() -> Iterator[tuple[str, re.Pattern[str]]]:
    """The beginnings of statements that take a condition, and how they may go on after it."""
    yield normal(documents.LIST) + " and (", re.compile(r"\) order by [\w., ]+ limit \?::int")
    for joined in (True, False):
        head, tail = search.render(2, search.COSINE, exact=True, joined=joined)
        yield normal(head) + " ", re.compile(" " + re.escape(normal(tail)))


def outside(statements: list[str]) -> list[str]:
    """Those of `statements`, as pg_stat_statements tells them, that nothing here allows."""
    constants, filtered = _constants(), list(_filtered())
    return [s for s in map(normal, statements) if not _allowed(s, constants, filtered)]


def _allowed(
    sql: str, constants: frozenset[str], filtered: list[tuple[str, re.Pattern[str]]]
) -> bool:
    if sql in constants or sql in _TRANSACTIONS or sql.startswith(_DRIVER):
        return True
    return any(_is_filtered(sql, head, tail) for head, tail in filtered)


def _is_filtered(sql: str, head: str, tail: re.Pattern[str]) -> bool:
    if not sql.startswith(head):
        return False
    rest = sql[len(head) :]
    end = next((m.start() for m in tail.finditer(rest) if m.end() == len(rest)), None)
    return end is not None and (rest[:end] == "?" or is_condition(rest[:end]))
