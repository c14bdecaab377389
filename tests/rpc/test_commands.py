"""The commands that call a server, run as people run them."""

import asyncio
import json
import os
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from command_line import Ended, Run

from cluster import DatabaseUrls
from knowledge.v1.audit_service_pb2 import ListAuditEventsRequest
from knowledge.v1.collection_pb2 import Collection
from knowledge.v1.document_pb2 import Document
from knowledge.v1.knowledge_service_pb2 import (
    DeleteDocumentRequest,
    GetDocumentRequest,
    ListDocumentsRequest,
)
from served import Serve

TARGET = os.environ.get("TARGET")
LEAFLETS = {
    "pressure": "High blood pressure is found by measuring it with a cuff.",
    "kidney": "Stones in the kidney cause strong pain in waves.",
    "sleep": "Who cannot sleep at night should not drink coffee in the evening.",
}


async def in_a_process(*arguments: str | Path) -> Ended:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "knowledged",
        *map(str, arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode is not None
    return Ended(process.returncode, output.decode(), errors.decode())


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def target(rpc_server: Any) -> AsyncIterator[str]:
    """host:port of the server under test."""
    if TARGET:
        yield TARGET
        return
    async with rpc_server() as running:
        yield f"127.0.0.1:{running.port}"


@pytest.fixture
def collection_id(collection: Collection) -> str:
    return collection.name.partition("/")[2]


def write_lines(folder: Path, contents: dict[str, str], **common: Any) -> Path:
    file = folder / "leaflets.jsonl"
    documents = ({"document_id": i, "content": c, **common} for i, c in contents.items())
    file.write_text("".join(json.dumps(document) + "\n" for document in documents))
    return file


async def documents_in(knowledge: Any, name: str) -> dict[str, Document]:
    answer = await knowledge.ListDocuments(ListDocumentsRequest(parent=name, page_size=1000))
    return {document.name.rpartition("/")[2]: document for document in answer.documents}


async def changes_of(audit_log: Any, uid: str) -> list[str]:
    text = f'collection_uid = "{uid}" AND outcome = DONE AND audit_class != READ'
    request = ListAuditEventsRequest(filter=text, page_size=1000)
    return [event.action for event in (await audit_log.ListAuditEvents(request)).events]


async def test_an_import_run_twice_doubles_nothing(
    target: str,
    knowledge: Any,
    audit_log: Any,
    collection: Collection,
    collection_id: str,
    tmp_path: Path,
):
    write_lines(tmp_path, LEAFLETS, metadata={"year": 2024}, labels={"for": "all"})
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.md").write_text("# A heading\n\nSome text.")
    command = ("import", tmp_path, "--collection", collection_id, "--target", target)

    first = await in_a_process(*command)
    stored = await documents_in(knowledge, collection.name)
    second = await in_a_process(*command)

    assert (first.code, second.code) == (0, 0), (first, second)
    assert first.output.startswith("4 created;")
    assert second.output.startswith("4 unchanged;")
    assert stored.keys() == {*LEAFLETS, "notes:a.md"}
    assert stored == await documents_in(knowledge, collection.name)
    assert sorted(await changes_of(audit_log, collection.uid)) == [
        "collections.create",
        *["documents.create"] * 4,
    ]


async def test_what_changed_is_updated_also_back_and_forth(
    knowledged: Run,
    target: str,
    knowledge: Any,
    collection: Collection,
    collection_id: str,
    tmp_path: Path,
):
    outputs: list[str] = []
    for content in ("old words", "new words", "old words", "new words"):
        file = write_lines(tmp_path, LEAFLETS | {"sleep": content})
        ended = await knowledged("import", file, "--collection", collection_id, "--target", target)
        outputs.append(ended.output.partition(";")[0])

    name = f"{collection.name}/documents/sleep"
    answer = await knowledge.GetDocument(GetDocumentRequest(name=name))
    assert outputs == ["3 created", *["1 updated, 2 unchanged"] * 3]
    assert answer.document.content == "new words"
    assert answer.document.revision == 4


async def test_what_cannot_be_stored_is_listed_and_the_rest_is_imported(
    knowledged: Run,
    target: str,
    knowledge: Any,
    collection: Collection,
    collection_id: str,
    tmp_path: Path,
):
    name = f"{collection.name}/documents/gone"
    file = write_lines(tmp_path, {"gone": "It will be deleted."})
    command = ("import", file, "--collection", collection_id, "--target", target)
    await knowledged(*command)
    await knowledge.DeleteDocument(DeleteDocumentRequest(name=name))
    write_lines(tmp_path, {"gone": "Again.", "blank": " ", **LEAFLETS})
    with file.open("a") as opened:
        opened.write('{"document_id": "sleep", "content": "twice"}\n{"content": 1}\n')

    ended = await knowledged(*command)

    assert ended.code == 1
    assert ended.output.startswith("3 created, 4 failed;")
    failed = [line.strip() for line in ended.output.splitlines()[1:]]
    assert sorted(failed) == [
        "blank: INVALID_ARGUMENT: document.content: is required and must not be blank",
        "gone: ALREADY_EXISTS: document_id: is taken by a deleted document",
        "leaflets.jsonl:7: content: should be a valid string",
        "sleep: its id stands in the input more than once",
    ]
    assert (await documents_in(knowledge, collection.name)).keys() == LEAFLETS.keys()


async def test_a_collection_is_made_only_when_asked_to(
    knowledged: Run, target: str, tmp_path: Path
):
    file, collection_id = write_lines(tmp_path, LEAFLETS), f"test-{uuid.uuid4().hex}"
    command = ("import", file, "--collection", collection_id, "--target", target)

    refused = await knowledged(*command)
    made = await knowledged(*command, "--create")

    assert refused.code == 1
    assert refused.errors.startswith("NOT_FOUND: ")
    assert (made.code, made.output.partition(";")[0]) == (0, "3 created")


async def test_a_path_that_is_missing_ends_the_import_before_it_begins(
    knowledged: Run, tmp_path: Path
):
    ended = await knowledged("import", tmp_path / "missing", "--collection", "any")
    assert ended.code == 2
    assert "there is no such file or folder" in ended.errors


async def test_what_was_exported_is_imported_again_identically(
    knowledged: Run,
    target: str,
    knowledge: Any,
    collection: Collection,
    collection_id: str,
    make_collection: Any,
    tmp_path: Path,
):
    metadata = {"year": 2024, "deep": [1.5, None, {"x": True}], "big": 1e300, "é": "ü"}
    file = write_lines(
        tmp_path, LEAFLETS, metadata=metadata, labels={"for": "all"}, title="A title"
    )
    await knowledged("import", file, "--collection", collection_id, "--target", target)
    out = tmp_path / "out.jsonl"

    command = ("export", "--collection", collection_id, "--target", target)
    ended = await knowledged(*command, "--output", out)
    other = await make_collection()
    again = ("import", out, "--collection", other.name.partition("/")[2], "--target", target)
    imported = await knowledged(*again)

    assert (ended.code, ended.errors) == (0, "3 documents\n")
    assert not out.with_name("out.jsonl.partial").exists()
    assert imported.output.startswith("3 created;")
    before = await documents_in(knowledge, collection.name)
    after = await documents_in(knowledge, other.name)
    assert before.keys() == after.keys()
    for field in ("title", "content_sha256", "metadata", "labels"):
        assert {i: getattr(x, field) for i, x in before.items()} == {
            i: getattr(x, field) for i, x in after.items()
        }


async def test_an_export_that_is_refused_leaves_no_file(
    knowledged: Run, target: str, tmp_path: Path
):
    out = tmp_path / "out.jsonl"
    command = ("export", "--collection", "none", "--target", target, "--output", out)
    ended = await knowledged(*command)
    assert (ended.code, ended.errors.partition(":")[0]) == (1, "NOT_FOUND")
    assert os.listdir(tmp_path) == []
    missing = await knowledged(*command[:-1], tmp_path / "missing" / "out.jsonl")
    assert missing.code == 2
    assert "No such file or directory" in missing.errors


async def test_a_watch_prints_changes_as_lines(
    knowledged: Run, target: str, knowledge: Any, collection_id: str, tmp_path: Path
):
    file = write_lines(tmp_path, LEAFLETS)
    await knowledged("import", file, "--collection", collection_id, "--target", target)
    watch = ("watch", "--collection", collection_id, "--target", target)
    ended = await knowledged(*watch, "--start", "0", "--count", "3")
    lines = [json.loads(line) for line in ended.output.splitlines()]
    assert (ended.code, len(lines)) == (0, 3)
    assert {line["action"] for line in lines} == {"documents.create"}
    assert {line["name"].rpartition("/")[2] for line in lines} == LEAFLETS.keys()
    refused = await knowledged("watch", "--collection", "none", "--target", target)
    assert (refused.code, refused.errors.partition(":")[0]) == (1, "NOT_FOUND")


async def test_a_search_prints_hits_with_score_title_name_and_text(
    knowledged: Run, target: str, collection_id: str, tmp_path: Path
):
    file = write_lines(tmp_path, LEAFLETS, title="A leaflet")
    await knowledged("import", file, "--collection", collection_id, "--target", target)

    ended = await knowledged(
        "search", "renal calculi", "--collection", collection_id, "--limit", "5", "--target", target
    )

    lines = ended.output.splitlines()
    score, title, name = lines[0].split(maxsplit=1)[0], "A leaflet", "documents/kidney"
    assert ended.code == 0
    assert 0 < float(score) <= 1
    assert title in lines[0]
    assert lines[0].endswith(name)
    assert lines[1].strip() == LEAFLETS["kidney"]
    assert lines[-1] == "3 hits: the collection has no more that can be searched"
    assert "\x1b" not in ended.output


async def test_a_search_by_words_keeps_to_them_and_one_by_both_honours_codes(
    knowledged: Run, target: str, collection_id: str, tmp_path: Path
):
    file = write_lines(tmp_path, LEAFLETS, title="A leaflet")
    await knowledged("import", file, "--collection", collection_id, "--target", target)
    where = ("--collection", collection_id, "--target", target)
    word = LEAFLETS["kidney"].split()[0].strip(".:,")

    by_words = await knowledged("search", f"the {word}", *where, "--by", "words")
    by_both = await knowledged("search", word, *where, "--by", "both")

    assert by_words.output.splitlines()[0].endswith("documents/kidney")
    assert by_words.output.splitlines()[-1] == "1 hit: no more hold the words"
    assert len(by_both.output.splitlines()) == 2 * len(LEAFLETS) + 1


async def test_recall_is_measured_and_told(knowledged: Run, target: str, collection_id: str):
    ended = await knowledged("recall", "--collection", collection_id, "--target", target)
    assert ended.code == 0
    assert ended.output.splitlines()[0] == "recall@10 1.000, lowest 1.000"
    assert "every vector is compared" in ended.output
    refused = await knowledged(
        "recall", "--collection", collection_id, "--sample", "0", "--target", target
    )
    assert refused.code == 1
    assert "sample_size" in refused.errors


async def test_a_search_with_a_bad_filter_is_refused_in_a_line(
    knowledged: Run, target: str, collection_id: str
):
    ended = await knowledged(
        "search", "any", "--collection", collection_id, "--filter", "nope = 1", "--target", target
    )
    assert ended.code == 1
    assert ended.errors.startswith("INVALID_ARGUMENT: filter:")


async def test_a_token_comes_from_the_option_or_the_setting(
    knowledged: Run,
    only_here: None,
    serve: Serve,
    second_database: DatabaseUrls,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    access_file, token_file = tmp_path / "access.yaml", tmp_path / "token"
    made = await knowledged("token", "--subject", "me", "--role", "admin", "--file", access_file)
    token_file.write_text(made.output)
    file = write_lines(tmp_path, LEAFLETS)
    async with serve(second_database, auth="token", access_file=access_file) as running:
        command = ("import", file, "--collection", f"test-{uuid.uuid4().hex}", "--create")
        command = (*command, "--target", f"127.0.0.1:{running.port}")
        without = await knowledged(*command)
        by_option = await knowledged(*command, "--token-file", token_file)
        monkeypatch.setenv("KNOWLEDGED_TOKEN_FILE", str(token_file))
        by_setting = await knowledged(*command)

    assert (without.code, without.errors.partition(":")[0]) == (1, "UNAUTHENTICATED")
    assert by_option.output.startswith("3 created;")
    assert by_setting.output.startswith("3 unchanged;")
