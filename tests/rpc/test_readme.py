"""The README says what is so: its commands run, its settings and paths are the real ones."""

import asyncio
import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2

from cluster import DatabaseUrls
from knowledged.app import service_descriptors
from knowledged.settings import Settings
from served import Serve

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
ADDRESS = "127.0.0.1:50051"


def blocks_of(tool: str) -> list[str]:
    return [block for block in BLOCKS if re.search(rf"^(etag=\$\()?{tool}\b", block, re.MULTILINE)]


async def run(script: str, port: int) -> str:
    """What the commands print, pasted one after the other into one shell."""
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-euo",
        "pipefail",
        "-c",
        script.replace(ADDRESS, f"127.0.0.1:{port}"),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return out.decode()


def answers(output: str) -> Iterator[dict[str, Any]]:
    """The JSON objects that stand one after the other in an output."""
    decoder, rest = json.JSONDecoder(), output.strip()
    while rest:
        answer, end = decoder.raw_decode(rest)
        yield answer
        rest = rest[end:].strip()


def actions(audit_events: dict[str, Any]) -> list[str]:
    return [event["action"] for event in audit_events["events"]]


async def test_the_calls_by_buf_curl_do_what_the_text_says(
    serve: Serve, database_urls: DatabaseUrls
) -> None:
    script = "".join(blocks_of("call"))
    assert script.count("$knowledge/") == 6
    async with serve(database_urls) as running:
        output = await run(script, running.port)
    created, document, search, update, deleted, events, emptied, health = answers(output)
    assert created["collection"]["name"] == "collections/leaflets"
    assert document["document"]["state"] == "DOCUMENT_STATE_ACTIVE"
    assert [hit["document"]["title"] for hit in search["hits"]] == ["Hypertension"]
    assert update["document"]["title"] == "High blood pressure"
    assert deleted["document"]["deleteTime"]
    assert actions(events) == [
        "documents.delete",
        "documents.update",
        "documents.get",
        "documents.create",
    ]
    assert emptied["receipt"]["leafHash"]
    assert health == {"status": "SERVING"}


async def test_the_calls_by_grpcurl_do_what_the_text_says(
    serve: Serve, database_urls: DatabaseUrls
) -> None:
    if shutil.which("grpcurl") is None:
        pytest.skip("grpcurl is not on PATH; its calls are checked against the descriptors")
    async with serve(database_urls) as running:
        output = await run("".join(blocks_of("grpcurl")), running.port)
    _, _, search, _, update, _, events, _, health = answers(output)
    assert search["hits"][0]["document"]["name"] == "collections/notes/documents/stones"
    assert update["document"]["title"] == "Kidney stones"
    assert actions(events) == ["documents.delete", "documents.update", "documents.create"]
    assert health == {"status": "SERVING"}


def test_the_calls_by_grpcurl_fit_the_protos() -> None:
    health = health_pb2.DESCRIPTOR.services_by_name["Health"]
    services = {service.full_name: service for service in [*service_descriptors(), health]}
    called: set[str] = set()
    for line in "".join(blocks_of("grpcurl")).replace("\\\n", "").splitlines():
        words = shlex.split(line)
        service, _, name = words[-1].partition("/")
        method = services[service].methods_by_name[name]
        body = words[words.index("-d") + 1] if "-d" in words else "{}"
        json_format.Parse(body, GetMessageClass(method.input_type)())
        called.add(name)
    assert called >= {"CreateDocument", "Search", "GetDocument", "UpdateDocument", "Check"}


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        target
        for page in PAGES
        for target in re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text(), re.MULTILINE)
    }
    assert named >= {"run", "test"}
    assert named <= targets


def test_the_settings_are_those_of_the_server() -> None:
    rows = re.findall(r"^\| (`[A-Z_`, ]+`) \| (?:`(.*?)`)? ?\|", README, re.MULTILINE)
    told = {name: default for names, default in rows for name in re.findall(r"[A-Z_]+", names)}
    assert told == {
        variable(name): shown(field.default) for name, field in Settings.model_fields.items()
    }


def variable(field: str) -> str:
    own = field.startswith("hugging_face_api_key")
    return field.upper() if own else f"KNOWLEDGED_{field.upper()}"


def shown(default: object) -> str:
    if default is None:
        return ""
    if isinstance(default, tuple):
        return ", ".join(map(str, default))
    return f"{default:g}" if isinstance(default, float) else str(default)


def test_every_path_of_the_tree_exists() -> None:
    tree = re.search(r"## What lies where\n+```\n(.*?)```", README, re.DOTALL)
    assert tree is not None
    for line in tree[1].splitlines():
        folder = ROOT / "server/knowledged" if line.startswith("  ") else ROOT
        for path in re.split(r" {2,}", line.strip())[0].split():
            assert list(folder.glob(path.rstrip("/"))), f"{path} is not there"


def test_every_link_between_the_pages_leads_somewhere() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
