"""The log as a file that can be verified elsewhere: lines of JSON, UTF-8.

    {"format": "knowledged-audit-export/1", "origin", "start_log_index", "tree_size", "complete",
     "before": base64 of the compact range of the leaves before the first, "checkpoint": note}
    {"log_index", "event_id", "leaf": base64, "salt": base64, "payload": base64, "event": {…}}
    …                        one for each index; without salt and payload where they were erased;
                             with "leaf_hash" (base64) alone where nothing else is shown
    {"manifest": {"entries", "sha256": of all lines before this one, in hex}}

`complete` says that whoever asked may see every event, so none is shown by its hash alone. `event`
is for people: what the bytes say. docs/auditing.md describes it, too.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, cast
from uuid import UUID

from knowledged.audit_leaf import Leaf, MalformedEvent, Payload, leaf_hash
from knowledged.ledger.entry import Entry, readable

FORMAT = "knowledged-audit-export/1"
LONGEST_LINE_BYTES = 64 * 2**20


class ExportError(ValueError):
    """A line is none of an export; says which and why."""


@dataclass(frozen=True, slots=True)
class Header:
    """What an export is of. `before` is merkle.CompactRange.encode of what comes before it."""

    origin: str
    start_log_index: int
    tree_size: int
    complete: bool
    before: bytes
    checkpoint: str


@dataclass(slots=True)
class Writer:
    """Turns entries into lines, and keeps the manifest's hash over them."""

    entries: int = 0
    _sha256: Any = field(default_factory=hashlib.sha256)

    def header(self, header: Header) -> bytes:
        return self._line({"format": FORMAT, **asdict(header), "before": _base64(header.before)})

    def lines(self, entries: Iterable[Entry]) -> bytes:
        made = [self._line(_shown(entry)) for entry in entries]
        self.entries += len(made)
        return b"".join(made)

    def digest(self) -> bytes:
        """SHA-256 of all lines so far."""
        return self._sha256.digest()

    def manifest(self) -> bytes:
        """The last line."""
        manifest = {"entries": self.entries, "sha256": self.digest().hex()}
        return _json({"manifest": manifest})

    def _line(self, content: dict[str, object]) -> bytes:
        line = _json(content)
        self._sha256.update(line)
        return line


class Reader:
    """Reads an export line by line: `header` is there at once, then `entries` once."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        """Raises ExportError when the first line is no header."""
        self._lines = iter(lines)
        self._number = 0
        self._sha256 = hashlib.sha256()
        self.header = self._header(self._next() or {})

    def entries(self) -> Iterator[Entry]:
        """Up to the manifest; raises ExportError for a line that is broken, or does not fit it."""
        seen = 0
        before = self._sha256.copy()
        while (content := self._next()) is not None:
            if "manifest" in content:
                self._end(content["manifest"], seen, before.hexdigest())
                return
            yield self._entry(content)
            seen += 1
            before = self._sha256.copy()
        raise ExportError(f"it ends after line {self._number} without its manifest: it is cut off")

    def _next(self) -> dict[str, Any] | None:
        line = next(self._lines, None)
        if line is None:
            return None
        self._number += 1
        self._sha256.update(line)
        try:
            content = json.loads(line) if len(line) <= LONGEST_LINE_BYTES else None
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict):
            raise ExportError(f"line {self._number} is no JSON object")
        return cast("dict[str, Any]", content)

    def _header(self, content: dict[str, Any]) -> Header:
        if content.get("format") != FORMAT:
            raise ExportError(f"the first line does not say that its format is {FORMAT}")
        try:
            return Header(
                _text(content["origin"]),
                _index(content["start_log_index"]),
                _index(content["tree_size"]),
                content["complete"] is True,
                _bytes(content["before"]),
                _text(content["checkpoint"]),
            )
        except (KeyError, ValueError) as error:
            raise ExportError(f"the first line is no header: {error}") from error

    def _entry(self, content: dict[str, Any]) -> Entry:
        try:
            leaf = _bytes(content["leaf"]) if "leaf" in content else None
            return Entry(
                log_index=_index(content["log_index"]),
                event_id=UUID(content["event_id"]),
                leaf_hash=_bytes(content["leaf_hash"]) if leaf is None else leaf_hash(leaf),
                leaf=leaf,
                salt=_bytes(content["salt"]) if "salt" in content else None,
                payload=_bytes(content["payload"]) if "payload" in content else None,
                shown=_object(content.get("event")),
                hidden=leaf is None and not self.header.complete,
            )
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise ExportError(f"line {self._number} is no entry: {error}") from error

    def _end(self, manifest: Any, seen: int, digest: str) -> None:
        if manifest != {"entries": seen, "sha256": digest}:
            raise ExportError("the manifest is not that of the lines before it")
        if next(self._lines, None) is not None:
            raise ExportError("lines follow the manifest")


def _shown(entry: Entry) -> dict[str, object]:
    shown: dict[str, object] = {"log_index": entry.log_index, "event_id": str(entry.event_id)}
    if entry.leaf is None:
        return shown | {"leaf_hash": _base64(entry.leaf_hash)}
    shown["leaf"] = _base64(entry.leaf)
    if entry.payload is not None:
        shown |= {"salt": _base64(entry.salt or b""), "payload": _base64(entry.payload)}
    try:
        payload = Payload.decode(entry.payload) if entry.payload is not None else None
        return shown | {"event": readable(Leaf.decode(entry.leaf), payload)}
    except MalformedEvent:
        return shown


def _json(content: dict[str, object]) -> bytes:
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "surrogatepass") + b"\n"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: object) -> bytes:
    try:
        return base64.b64decode(_text(text), validate=True)
    except binascii.Error:
        raise ValueError("its base64 is malformed") from None


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("a text is due")
    return value


def _object(value: object) -> dict[str, object] | None:
    if value is not None and not isinstance(value, dict):
        raise ValueError("an object is due")
    return cast("dict[str, object] | None", value)


def _index(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError("an index is due")
    return value
