"""`knowledged credential` and `knowledged models`, as operators run them."""

import asyncio
import io
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
import structlog.testing
from serving import MODEL, Caller, server

from cluster import DatabaseUrls
from hugging_face_server import EXPIRED, GOOD, HuggingFaceServer
from knowledged.__main__ import main
from served import Serve

COLUMNS = ("model", "provider", "dimension", "tokens", "collections", "state")
KEY = "hf_commandcanarycommandcanary0001"
Run = Callable[..., Coroutine[Any, Any, tuple[int, str, str]]]


class Stdin(io.StringIO):
    """What is typed or piped in."""

    terminal = False

    def isatty(self) -> bool:
        return self.terminal


@pytest.fixture
async def caller(
    serve: Serve, database_urls: DatabaseUrls, outside: HuggingFaceServer
) -> AsyncIterator[Caller]:
    outside.keys[KEY] = GOOD
    models = {"hugging_face_models": (f"{MODEL}:384",)}
    async with server(serve, database_urls, outside, **models) as opened:
        yield opened


@pytest.fixture
def knowledged(
    caller: Caller, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Run:
    """`await knowledged("credential", "set", stdin=…)`: exit code, output, errors."""

    async def run(*arguments: str, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", Stdin(stdin))
        capsys.readouterr()
        given = [*arguments, "--target", f"127.0.0.1:{caller.port}"]
        with structlog.testing.capture_logs():
            code = await asyncio.to_thread(main, given)
        told = capsys.readouterr()
        assert "canary" not in told.out + told.err
        return code, told.out, told.err

    return run


async def test_a_key_is_set_from_stdin_shown_masked_tried_and_removed(
    knowledged: Run, outside: HuggingFaceServer
) -> None:
    assert await knowledged("credential", "status") == (0, "source    none\n", "")
    code, output, _ = await knowledged("credential", "set", stdin=f"{KEY}\n")
    assert code == 0
    assert "stored by `credential set`" in output
    assert "key       hf_…0001" in output
    code, output, _ = await knowledged("credential", "validate")
    assert (code, "expires   2027" in output, ": good" in output) == (0, True, True)
    outside.keys[KEY] = EXPIRED
    code, output, errors = await knowledged("credential", "validate")
    assert code == 1
    assert "PROVIDER_CREDENTIAL_EXPIRED" in output
    assert "make a new one" in errors
    code, output, _ = await knowledged("credential", "delete")
    assert (code, output) == (0, "source    none\n")
    code, _, errors = await knowledged("credential", "delete")
    assert (code, errors) == (1, "NOT_FOUND: credential: none is stored\n")


async def test_a_key_that_is_refused_is_told_in_a_line(
    knowledged: Run, outside: HuggingFaceServer
) -> None:
    code, _, errors = await knowledged("credential", "set", stdin="hf_unknowncanarycanarycanary\n")
    assert code == 1
    assert errors.startswith("FAILED_PRECONDITION: the provider does not know the key")
    code, _, errors = await knowledged("credential", "set", stdin="short\n")
    assert (code, errors.startswith("INVALID_ARGUMENT: api_key: has 5 characters")) == (1, True)
    code, _, _ = await knowledged(
        "credential", "set", "--skip-validation", stdin="hf_unknowncanarycanarycanary\n"
    )
    assert code == 0


async def test_a_key_is_no_argument(knowledged: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        await asyncio.to_thread(main, ["credential", "set", KEY])
    assert refused.value.code == 2


async def test_at_a_terminal_the_key_is_asked_for_without_an_echo(
    knowledged: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("getpass.getpass", lambda prompt: asked.append(prompt) or KEY)
    monkeypatch.setattr(Stdin, "terminal", True)
    assert (await knowledged("credential", "set"))[0] == 0
    assert asked == ["Key of Hugging Face: "]


async def test_models_are_listed_with_what_uses_them(knowledged: Run, caller: Caller) -> None:
    await caller.collection(MODEL)
    await caller.collection("somebody/else")
    code, output, _ = await knowledged("models")
    assert code == 0
    rows = {line.split()[0]: line for line in output.splitlines()}
    assert output.splitlines()[0].split() == list(COLUMNS)
    assert "(default)" in rows["all-MiniLM-L6-v2-int8"]
    assert rows[MODEL].split() == [MODEL, "huggingface", "384", "254", "1", "untried"]
    assert "none: vectors only" in rows["somebody/else"]
