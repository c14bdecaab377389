"""Documents in files: JSON lines, one document a line; text and Markdown, one document a file."""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from knowledge.v1.document_pb2 import Document
from knowledged.names import id_fault

_MIME_TYPES = {".txt": "text/plain", ".md": "text/markdown"}
_LINES = ".jsonl"
_LONGEST_TITLE = 120
_LARGEST_EXACT_INTEGER = 2**53
# The first heading in the style of `# Heading`.
_HEADING = re.compile(r"^ {0,3}#{1,6}[ \t]+(.+?)[ \t]*#*[ \t]*$", re.MULTILINE)


class InputError(Exception):
    """A path that cannot be imported."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file, and its name for ids and errors: the path within the folder that was given."""

    path: Path
    name: str


@dataclass(frozen=True, slots=True)
class Item:
    """A document to import; `document` has everything that a caller may set, but no name."""

    document_id: str
    document: Document


@dataclass(frozen=True, slots=True)
class BadInput:
    """What is no document: where it stands, and what is wrong. Says nothing of the content."""

    where: str
    problem: str


class _Line(BaseModel):
    """The keys of a line; without a document_id the content makes one."""

    model_config = ConfigDict(extra="forbid", strict=True)

    document_id: str | None = None
    title: str = ""
    content: Annotated[str, Field(min_length=1)]
    mime_type: str = "text/plain"
    source_uri: str = ""
    metadata: dict[str, JsonValue] = {}
    labels: dict[str, str] = {}
    subject_ids: list[str] = []


def find_sources(paths: Iterable[Path]) -> list[Source]:
    """The files, and what lies in the folders, sorted; hidden files and folders are left out.

    Raises InputError for a path that is missing or of another kind.
    """
    return [source for path in paths for source in _sources(path)]


def count(sources: Iterable[Source]) -> int:
    """How many documents `read` will find, bad ones too."""
    return sum(_lines_in(source) if source.path.suffix == _LINES else 1 for source in sources)


def read(sources: Iterable[Source]) -> Iterator[Item | BadInput]:
    """The documents in order."""
    for source in sources:
        if source.path.suffix == _LINES:
            yield from _read_lines(source)
        else:
            yield _read_text(source)


def _sources(path: Path) -> Iterator[Source]:
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            name = file.relative_to(path)
            if _known(file) and file.is_file() and not _hidden(name):
                yield Source(file, name.as_posix())
    elif not path.is_file():
        raise InputError(f"{path}: there is no such file or folder")
    elif not _known(path):
        raise InputError(f"{path}: is none of {_LINES}, {', '.join(_MIME_TYPES)}")
    else:
        yield Source(path, path.name)


def _known(file: Path) -> bool:
    return file.suffix == _LINES or file.suffix in _MIME_TYPES


def _hidden(name: Path) -> bool:
    return any(part.startswith(".") for part in name.parts)


def _lines_in(source: Source) -> int:
    with source.path.open("rb") as file:
        return sum(1 for _ in _numbered_lines(file))


def _numbered_lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, counted from 1 as editors do; without a byte order mark."""
    for number, line in enumerate(file, 1):
        text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        if text := text.rstrip():
            yield number, text


def _read_lines(source: Source) -> Iterator[Item | BadInput]:
    with source.path.open("rb") as file:
        for number, text in _numbered_lines(file):
            yield _read_line(f"{source.name}:{number}", text)


def _read_line(where: str, text: bytes) -> Item | BadInput:
    try:
        line = _Line.model_validate_json(text)
    except ValidationError as error:
        return BadInput(where, "; ".join(_problems(error)))
    if not _exact(line.metadata):
        return BadInput(where, "metadata: an integer beyond 2^53; write it as a string")
    document_id = line.document_id
    if document_id is None:
        document_id = hashlib.sha256(line.content.encode()).hexdigest()[:32]
    if fault := id_fault(document_id):
        return BadInput(where, f"document_id: {fault}")
    return Item(document_id, _document(line))


def _document(line: _Line) -> Document:
    document = Document(
        title=line.title,
        content=line.content,
        mime_type=line.mime_type,
        source_uri=line.source_uri,
        labels=line.labels,
        subject_ids=line.subject_ids,
    )
    if line.metadata:
        document.metadata.update(line.metadata)
    return document


def _problems(error: ValidationError) -> Iterator[str]:
    found = error.errors(include_input=False, include_url=False, include_context=False)
    for problem in found:
        path = ".".join(map(str, problem["loc"]))
        message = problem["msg"].removeprefix("Input ").replace(" at line 1 column", " at column")
        if "hex escape" in message or "surrogate" in message:
            message = f"{message} (half of a surrogate pair is no character)"
        yield f"{path}: {message}" if path else message


def _exact(value: JsonValue) -> bool:
    """Whether every integer in it survives as a double, which is what a Struct holds."""
    match value:
        case int():
            return abs(value) <= _LARGEST_EXACT_INTEGER
        case dict():
            return all(map(_exact, value.values()))
        case list():
            return all(map(_exact, value))
        case _:
            return True


def _read_text(source: Source) -> Item | BadInput:
    try:
        content = source.path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        return BadInput(source.name, f"cannot be read: {type(error).__name__}")
    except UnicodeDecodeError as error:
        return BadInput(source.name, f"is not UTF-8 at byte {error.start}")
    if not content.strip():
        return BadInput(source.name, "is empty")
    document = Document(
        title=_title(source, content),
        content=content,
        mime_type=_MIME_TYPES[source.path.suffix],
        source_uri=source.name,
    )
    return Item(_id_of(source.name), document)


def _title(source: Source, content: str) -> str:
    """The first heading of Markdown, the first line of text; the file's name where that is none."""
    if source.path.suffix == ".md":
        heading = _HEADING.search(content)
        found = heading[1] if heading else ""
    else:
        found = content.strip().partition("\n")[0].strip()
    return found if 0 < len(found) <= _LONGEST_TITLE else source.path.stem


def _id_of(name: str) -> str:
    """The name with ":" for "/"; with a digest where that makes no good id."""
    identifier = name.replace("/", ":")
    if id_fault(identifier) is None:
        return identifier
    printable = "".join(c for c in identifier if c.isprintable())
    return f"{printable[:64]}-{hashlib.sha256(name.encode()).hexdigest()[:32]}"
