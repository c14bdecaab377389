"""The table of docs/providers.md is true: each cause's status, reason, audit event and message."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from refusal import Refusal, refused
from serving import MISSING_MODEL, NAME, Caller, server

from cluster import DatabaseUrls
from hugging_face_server import (
    EXPIRED,
    GATED,
    GOOD,
    MODEL,
    NO_PERMISSION,
    OVER_QUOTA,
    RESET,
    Fault,
    HuggingFaceServer,
    failing,
    limited,
    loading,
)
from knowledge.v1 import audit_event_pb2 as ae
from knowledge.v1 import config_service_pb2 as s
from knowledged.embedding.provider_faults import CAUSES
from served import Serve

PAGE = (Path(__file__).parents[2] / "docs/providers.md").read_text()
ROW = re.compile(r"^\| (.+) \| ([A-Z_]+) \| ([A-Z_]+) \| (.+) \| (.+) \|$", re.MULTILINE)
TABLE = {
    reason: row for *row, reason in ((m[1], m[2], m[4], m[5], m[3]) for m in ROW.finditer(PAGE))
}
CANARY = "canary-of-the-text"
AWAY = {
    "PROVIDER_RATE_LIMITED",
    "PROVIDER_MODEL_LOADING",
    "PROVIDER_UNAVAILABLE",
    "PROVIDER_TIMEOUT",
}

Prepare = Callable[[HuggingFaceServer, str], None]


def key_is(kind: str | None) -> Prepare:
    def prepare(outside: HuggingFaceServer, key: str) -> None:
        outside.keys.pop(key, None)
        if kind:
            outside.keys[key] = kind

    return prepare


def answers(fault: Fault) -> Prepare:
    def prepare(outside: HuggingFaceServer, key: str) -> None:
        outside.keys[key], outside.always = GOOD, fault

    return prepare


REFUSED_TEXT = Fault(422, {"error": f"{CANARY}: tokenization error", "error_type": "Tokenizer"})
# Reason, model, and what is so at the provider. In this order: each has a key of its own.
CASES: list[tuple[str, str, Prepare]] = [
    ("PROVIDER_CREDENTIAL_INVALID", MODEL, key_is(None)),
    ("PROVIDER_CREDENTIAL_EXPIRED", MODEL, key_is(EXPIRED)),
    ("PROVIDER_PERMISSION_MISSING", MODEL, key_is(NO_PERMISSION)),
    ("PROVIDER_QUOTA_EXHAUSTED", MODEL, key_is(OVER_QUOTA)),
    ("PROVIDER_MODEL_GATED", GATED, key_is(GOOD)),
    ("PROVIDER_MODEL_NOT_FOUND", MISSING_MODEL, key_is(GOOD)),
    ("PROVIDER_MODEL_MISMATCH", MODEL, answers(Fault(200, [[0.5] * 3]))),
    ("PROVIDER_ANSWER_INVALID", MODEL, answers(Fault(200, f"<p>{CANARY}</p>"))),
    ("PROVIDER_RATE_LIMITED", MODEL, answers(limited("7"))),
    ("PROVIDER_MODEL_LOADING", MODEL, answers(loading(20.0))),
    ("PROVIDER_UNAVAILABLE", MODEL, answers(failing(502))),
    ("PROVIDER_UNAVAILABLE", MODEL, answers(RESET)),
    ("PROVIDER_TIMEOUT", MODEL, answers(Fault(seconds=7.0))),
    ("PROVIDER_TEXT_REFUSED", MODEL, answers(REFUSED_TEXT)),
    (
        "PROVIDER_MODEL_NOT_FOUND",
        MODEL,
        answers(Fault(400, {"error": "Model test/minilm not supported by provider hf-inference"})),
    ),
]


def test_the_table_has_every_cause_as_it_is() -> None:
    assert set(TABLE) == {cause.reason for cause in CAUSES}
    for cause in CAUSES:
        _, status, _, message = TABLE[cause.reason]
        assert (status, message) == (cause.kind.code.name, cause.advice)


@pytest.fixture
async def caller(
    serve: Serve, database_urls: DatabaseUrls, outside: HuggingFaceServer
) -> AsyncIterator[Caller]:
    async with server(serve, database_urls, outside) as opened:
        yield opened


async def test_every_cause_is_told_apart(caller: Caller, outside: HuggingFaceServer) -> None:
    names = {model: await caller.collection(model) for model in (MODEL, GATED, MISSING_MODEL)}
    await holds(caller, await search(caller, names[MODEL]), "PROVIDER_CREDENTIAL_MISSING", MODEL)
    for number, (reason, model, prepare) in enumerate(CASES):
        # A key of its own for each case: so what was wrong before is not remembered.
        key = f"hf_canarykeycanarykeycanary{number:04}"
        outside.always = None
        prepare(outside, key)
        await caller.set_key(key, skip_validation=True)
        refusal = await search(caller, names[model])
        assert CANARY not in refusal.raw
        assert "canarykey" not in refusal.raw
        await holds(caller, refusal, reason, model)
        await caller.config.DeleteProviderCredential(s.DeleteProviderCredentialRequest(name=NAME))


async def search(caller: Caller, name: str) -> Refusal:
    return await refused(caller.search(name, CANARY, 5.0))


async def holds(caller: Caller, refusal: Refusal, reason: str, model: str) -> None:
    """What the table says of a reason is what the caller reads and what the server tells."""
    cause, status, audit, message = TABLE[reason]
    assert refusal.reason == reason, cause
    assert (refusal.code.name, refusal.message) == (status, message), cause
    assert (refusal.retry_seconds is not None) == (reason in AWAY), cause
    if reason == "PROVIDER_TEXT_REFUSED":
        assert audit == "none: it is the text's"
        return
    told = await caller.status(model)
    state = s.PROVIDER_STATE_AWAY if reason in AWAY else s.PROVIDER_STATE_REFUSING
    assert (told.state, told.reason, told.message) == (state, reason, message), cause
    action, outcome = audit.replace("`", "").split(" ")
    events = await recorded(caller, action)
    assert ae.AuditOutcome.Name(events[0].outcome) == f"AUDIT_OUTCOME_{outcome}"
    assert (events[0].actor, events[0].grpc_code) == ("knowledged", refusal.code.value[0])


async def recorded(caller: Caller, action: str) -> list[Any]:
    """The events of an action, which a worker records soon."""
    async with asyncio.timeout(5):
        while not (events := await caller.events(f'action = "{action}"')):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return events


async def test_a_revoked_key_is_told_from_an_unknown_one(
    caller: Caller, outside: HuggingFaceServer
) -> None:
    key = "hf_canarykeycanarykeycanary9999"
    outside.keys[key] = GOOD
    await caller.set_key(key, skip_validation=True)
    name = await caller.collection()
    assert await caller.search(name, "gout") == []
    del outside.keys[key]
    await holds(caller, await search(caller, name), "PROVIDER_CREDENTIAL_REVOKED", MODEL)
    assert await recorded(caller, "credentials.reject:PROVIDER_CREDENTIAL_REVOKED")


async def test_the_address_that_was_given_up_is_told(
    serve: Serve, database_urls: DatabaseUrls, outside: HuggingFaceServer
) -> None:
    key = "hf_canarykeycanarykeycanary9999"
    outside.keys[key] = GOOD
    gone = {"hugging_face_router_url": f"{outside.url}/gone", "hugging_face_api_key": key}
    async with server(serve, database_urls, outside, **gone) as caller:
        refusal = await search(caller, await caller.collection())
        await holds(caller, refusal, "PROVIDER_ENDPOINT_GONE", MODEL)
