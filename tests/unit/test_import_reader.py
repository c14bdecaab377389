"""What `knowledged import` makes of files."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from knowledge.v1.document_pb2 import Document
from knowledged.commands.printable import snippet
from knowledged.commands.reader import BadInput, InputError, Item, count, find_sources, read


def entries(*paths: Path) -> list[Item | BadInput]:
    return list(read(find_sources(paths)))


def items(*paths: Path) -> list[Item]:
    found = entries(*paths)
    assert all(isinstance(entry, Item) for entry in found), found
    return [entry for entry in found if isinstance(entry, Item)]


def lines(folder: Path, *documents: dict[str, Any]) -> Path:
    file = folder / "lines.jsonl"
    file.write_text("".join(json.dumps(document) + "\n" for document in documents))
    return file


def test_every_key_of_a_line_reaches_its_document(tmp_path: Path):
    given_keys: dict[str, Any] = {
        "document_id": "d-1",
        "title": "Blood pressure",
        "content": "It was high.",
        "mime_type": "text/markdown",
        "source_uri": "https://clinic.example/1",
        "metadata": {"year": 2024, "mean": 1.5, "tags": ["a", None, True], "in": {"x": "y"}},
        "labels": {"env": "prod"},
        "subject_ids": ["p-7"],
    }
    (item,) = items(lines(tmp_path, given_keys))
    expected = Document(
        **{key: given_keys[key] for key in given_keys.keys() - {"document_id", "metadata"}}
    )
    expected.metadata.update(given_keys["metadata"])
    assert item == Item("d-1", expected)


def test_a_line_without_an_id_gets_the_same_one_every_time(tmp_path: Path):
    file = lines(tmp_path, {"content": "one"}, {"content": "two"}, {"title": "t", "content": "one"})
    ids = [item.document_id for item in items(file)]
    assert ids[0] == ids[2] != ids[1]
    assert ids == [item.document_id for item in items(file)]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b'{"content": "a"', "Invalid JSON: EOF while parsing an object at column 15"),
        (b"[]", "should be an object"),
        (b'{"title": "a"}', "content: Field required"),
        (b'{"content": ""}', "content: String should have at least 1 character"),
        (b'{"content": 5}', "content: should be a valid string"),
        (b'{"content": "a", "contents": "b"}', "contents: Extra inputs are not permitted"),
        (b'{"content": "a", "labels": {"n": 1}}', "labels.n: should be a valid string"),
        (b'{"content": "a", "document_id": ""}', "document_id: 0 characters; 1 to 128 are allowed"),
        (
            b'{"content": "a", "document_id": "a/b"}',
            'document_id: must be printable characters without "/"',
        ),
        (
            b'{"content": "a", "metadata": {"n": [9007199254740993]}}',
            "metadata: an integer beyond 2^53; write it as a string",
        ),
    ],
)
def test_a_bad_line_is_named_by_its_number_and_the_others_are_read(
    tmp_path: Path, line: bytes, problem: str
):
    file = tmp_path / "some.jsonl"
    file.write_bytes(b'{"content": "first"}\n\n' + line + b'\n{"content": "last"}\n')
    first, bad, last = entries(file)
    assert isinstance(first, Item)
    assert isinstance(last, Item)
    assert bad == BadInput("some.jsonl:3", problem)


@pytest.mark.parametrize("escape", [rb"\ud800", rb"\ud800A", rb"\udc00", rb"\ud800\ud800"])
def test_a_lone_surrogate_is_refused(tmp_path: Path, escape: bytes):
    file = tmp_path / "some.jsonl"
    file.write_bytes(b'{"content": "' + escape + b'"}')
    (bad,) = entries(file)
    assert isinstance(bad, BadInput)
    assert bad.where == "some.jsonl:1"
    assert "half of a surrogate pair is no character" in bad.problem


def test_a_fault_does_not_repeat_the_content(tmp_path: Path):
    secret = "Mrs Example has diabetes"
    (bad,) = entries(lines(tmp_path, {"content": "a", "title": [secret], "labels": secret}))
    assert isinstance(bad, BadInput)
    assert secret not in bad.problem


def test_a_folder_is_read_whole_in_order_without_hidden_files(tmp_path: Path):
    for name in ("b/c.txt", "a.md", "b/a.md", ".git/x.md", "b/.hidden.txt", "picture.png"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"text of {name}")
    found = items(tmp_path)
    assert [item.document_id for item in found] == ["a.md", "b:a.md", "b:c.txt"]
    assert [item.document.source_uri for item in found] == ["a.md", "b/a.md", "b/c.txt"]
    assert [item.document.mime_type for item in found] == [
        "text/markdown",
        "text/markdown",
        "text/plain",
    ]


@pytest.mark.parametrize(
    ("name", "content", "title"),
    [
        ("a.md", "Some words.\n\n## The heading ##\n\n# Another\n", "The heading"),
        ("a.md", "No heading, only #tags", "a"),
        ("a.txt", "\n  The first line  \r\nand more", "The first line"),
        ("a.txt", "A line that goes on " + "and on " * 30, "a"),
    ],
)
def test_a_title_is_the_first_heading_or_line_or_else_the_name(
    tmp_path: Path, name: str, content: str, title: str
):
    (tmp_path / name).write_bytes(content.encode())
    (item,) = items(tmp_path / name)
    assert item.document.title == title
    assert item.document.content == content


def test_names_too_long_for_an_id_are_told_apart(tmp_path: Path):
    for last in "ab":
        file = tmp_path / ("folder" * 20) / f"{'x' * 100}{last}.txt"
        file.parent.mkdir(exist_ok=True)
        file.write_text("text")
    ids = [item.document_id for item in items(tmp_path)]
    assert len(set(ids)) == 2
    assert all(len(document_id) <= 128 for document_id in ids)


def test_text_that_is_not_utf_8_and_empty_text_are_named(tmp_path: Path):
    (tmp_path / "a.txt").write_bytes(b"caf\xe9")
    (tmp_path / "b.md").write_bytes(b" \n")
    assert entries(tmp_path) == [
        BadInput("a.txt", "is not UTF-8 at byte 3"),
        BadInput("b.md", "is empty"),
    ]


def test_a_byte_order_mark_is_no_text(tmp_path: Path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbftext")
    (tmp_path / "b.jsonl").write_bytes(b'\xef\xbb\xbf{"content": "line"}\r\n')
    assert [item.document.content for item in items(tmp_path)] == ["text", "line"]


def test_a_missing_path_and_a_strange_file_are_refused(tmp_path: Path):
    (tmp_path / "a.pdf").write_bytes(b"%PDF")
    with pytest.raises(InputError, match="no such file or folder"):
        find_sources([tmp_path / "missing"])
    with pytest.raises(InputError, match=r"none of \.jsonl, \.txt, \.md"):
        find_sources([tmp_path / "a.pdf"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(st.lists(st.binary(max_size=60) | st.just(b'{"content": "a"}'), max_size=5))
def test_any_bytes_are_counted_and_read_without_a_crash(tmp_path: Path, found: list[bytes]):
    file = tmp_path / "any.jsonl"
    file.write_bytes(b"\n".join(found))
    assert count(find_sources([file])) == len(entries(file))


def test_what_is_shown_has_no_control_characters():
    assert snippet("a\x1b[2Jb\r\n\n c", 50) == "a [2Jb c"
    assert snippet("one two three", 9) == "one two…"
