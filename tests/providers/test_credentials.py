"""The keys of providers over the wire: set, told masked, tried, removed; and at rest."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from refusal import refused
from serving import NAME, Caller, server

from cluster import DatabaseUrls
from hugging_face_server import EXPIRED, GOOD, OVER_QUOTA, HuggingFaceServer
from knowledge.v1 import config_service_pb2 as s
from knowledged.connection import connect
from knowledged.credentials.vault import Vault
from knowledged.secret import RootSecret
from served import Serve

Code = grpc.StatusCode
KEY, OTHER = "hf_canarycanarycanarycanary0001", "hf_canarycanarycanarycanary0002"
CANARY = "canarycanary"
SECONDS = 5.0
REJECTED = "credentials.reject:PROVIDER_CREDENTIAL_INVALID"


@pytest.fixture
async def caller(
    serve: Serve, database_urls: DatabaseUrls, outside: HuggingFaceServer
) -> AsyncIterator[Caller]:
    outside.keys[KEY] = GOOD
    async with server(serve, database_urls, outside) as opened:
        yield opened


async def stored(urls: DatabaseUrls) -> Any:
    conn = await connect(urls.superuser_dsn)
    try:
        return await conn.fetchrow("select * from knowledge.provider_credential")
    finally:
        await conn.close()


async def test_a_key_is_tried_stored_sealed_and_told_masked(
    caller: Caller, database_urls: DatabaseUrls, outside: HuggingFaceServer
) -> None:
    assert (await caller.credential()).source == s.CREDENTIAL_SOURCE_UNSPECIFIED
    credential = await caller.set_key(KEY)
    assert outside.asked[0].path == "/api/whoami-v2"
    assert credential == await caller.credential()
    assert (credential.name, credential.masked) == (NAME, "hf_…0001")
    assert credential.source == s.CREDENTIAL_SOURCE_STORED
    assert len(credential.fingerprint) == 16
    assert credential.HasField("set_time")
    row = await stored(database_urls)
    assert CANARY not in repr(row)
    assert len(row["nonce"]) == 12
    assert "credentials.set" in await caller.actions()


async def test_a_key_that_the_provider_refuses_is_not_stored(
    caller: Caller, database_urls: DatabaseUrls, outside: HuggingFaceServer
) -> None:
    outside.keys[OTHER] = EXPIRED
    refusal = await refused(caller.set_key(OTHER))
    assert refusal.code is Code.FAILED_PRECONDITION
    assert refusal.reason == "PROVIDER_CREDENTIAL_EXPIRED"
    assert CANARY not in refusal.raw
    assert await stored(database_urls) is None
    credential = await caller.set_key(OTHER, skip_validation=True)
    assert credential.masked == "hf_…0002"


MALFORMED = ["", "short", f"{KEY} {CANARY}", f"{KEY}\n{CANARY}", f'"{KEY}"', KEY + "é", "k" * 513]


async def test_a_malformed_key_is_refused_by_its_rule(caller: Caller) -> None:
    unknown = s.SetProviderCredentialRequest(name="providers/openai", api_key=KEY)
    assert set((await refused(caller.config.SetProviderCredential(unknown))).fields) == {"name"}
    for key in MALFORMED:
        refusal = await refused(caller.set_key(key, request_id="no uuid"))
        assert refusal.code is Code.INVALID_ARGUMENT, key
        assert set(refusal.fields) == {"api_key", "request_id"}, key
        assert CANARY not in refusal.raw


async def test_a_stale_etag_is_refused_and_a_repeat_gets_the_first_answer(caller: Caller) -> None:
    first = await caller.set_key(KEY, skip_validation=True)
    request = s.SetProviderCredentialRequest(
        name=NAME,
        api_key=OTHER,
        skip_validation=True,
        etag=first.etag,
        request_id=str(uuid.uuid4()),
    )
    second = await caller.config.SetProviderCredential(request)
    again = await caller.config.SetProviderCredential(request)
    assert again.receipt == second.receipt
    assert again.credential.etag == second.credential.etag
    assert second.credential.etag != first.etag
    refusal = await refused(caller.set_key(KEY, skip_validation=True, etag=first.etag))
    assert (refusal.code, refusal.reason) == (Code.ABORTED, "ETAG_MISMATCH")
    delete = s.DeleteProviderCredentialRequest(name=NAME, etag=first.etag)
    assert (await refused(caller.config.DeleteProviderCredential(delete))).code is Code.ABORTED
    assert (await caller.credential()).masked == "hf_…0002"
    assert (await caller.actions()).count("credentials.set") == 2


async def test_without_the_stored_key_that_of_the_environment_is_used_again(
    serve: Serve, database_urls: DatabaseUrls, outside: HuggingFaceServer
) -> None:
    outside.keys[KEY] = outside.keys[OTHER] = GOOD
    given = {"hugging_face_api_key": OTHER}
    async with server(serve, database_urls, outside, **given) as caller:
        assert (await caller.credential()).source == s.CREDENTIAL_SOURCE_ENVIRONMENT
        await caller.set_key(KEY)
        delete = s.DeleteProviderCredentialRequest(name=NAME, request_id=str(uuid.uuid4()))
        first = await caller.config.DeleteProviderCredential(delete)
        assert await caller.config.DeleteProviderCredential(delete) == first
        credential = await caller.credential()
        assert (credential.masked, credential.etag) == ("hf_…0002", "")
        again = s.DeleteProviderCredentialRequest(name=NAME)
        assert (await refused(caller.config.DeleteProviderCredential(again))).code is Code.NOT_FOUND
        assert "credentials.delete" in await caller.actions()


async def test_validate_tells_what_the_provider_says(
    caller: Caller, outside: HuggingFaceServer
) -> None:
    request = s.ValidateProviderCredentialRequest(name=NAME)
    without = await caller.config.ValidateProviderCredential(request)
    assert "none is set" in without.message
    await caller.set_key(KEY, skip_validation=True)
    outside.asked.clear()
    good = await caller.config.ValidateProviderCredential(request)
    assert "does not serve" in good.message or "gated" in good.message
    outside.keys[KEY] = OVER_QUOTA
    poor = await caller.config.ValidateProviderCredential(request)
    assert poor.credential.check_reason == "PROVIDER_QUOTA_EXHAUSTED"
    outside.keys[KEY] = EXPIRED
    expired = await caller.config.ValidateProviderCredential(request)
    assert expired.credential.check_reason == "PROVIDER_CREDENTIAL_EXPIRED"
    assert expired.credential.HasField("check_time")
    assert set(outside.texts()) == {"knowledged"}
    assert (await caller.actions()).count("credentials.validate") == 4


async def test_validate_is_content_with_a_good_key(
    serve: Serve, database_urls: DatabaseUrls, outside: HuggingFaceServer
) -> None:
    outside.keys[KEY] = GOOD
    models = {"hugging_face_models": ("test/minilm:384",), "hugging_face_api_key": KEY}
    async with server(serve, database_urls, outside, **models) as caller:
        answer = await caller.config.ValidateProviderCredential(
            s.ValidateProviderCredentialRequest(name=NAME, request_id=str(uuid.uuid4()))
        )
        assert (answer.message, answer.credential.check_reason) == ("", "")
        assert answer.expire_time.ToDatetime().year == 2027


async def uses(caller: Caller, masked: str) -> float:
    """Seconds until the replica uses a key."""
    began = time.monotonic()
    async with asyncio.timeout(SECONDS):
        while (await caller.credential()).masked != masked:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return time.monotonic() - began


async def test_a_file_is_followed_and_a_bad_one_changes_nothing(
    serve: Serve, database_urls: DatabaseUrls, outside: HuggingFaceServer, tmp_path: Path
) -> None:
    outside.keys[KEY] = outside.keys[OTHER] = GOOD
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    async with server(serve, database_urls, outside, hugging_face_api_key_file=file) as caller:
        name = await caller.collection()
        await caller.search(name, "gout")
        for bad in (f"{KEY}\n{CANARY}", "hf_unknownunknownunknownunknown"):
            file.write_text(bad)
            await asyncio.sleep(1.3)
            assert await caller.search(name, "gout") == []
            credential = await caller.credential()
            assert (credential.masked, credential.check_reason) == ("hf_…0001", "")
            assert credential.rejected_reason == "PROVIDER_CREDENTIAL_INVALID"
        file.unlink()
        swapped = tmp_path / "new"
        swapped.write_text(OTHER)
        swapped.replace(file)
        assert await uses(caller, "hf_…0002") < SECONDS
        assert (await caller.credential()).rejected_reason == ""
        told = await caller.actions()
        assert REJECTED in told
        assert told.count("credentials.use") >= 2


async def test_the_root_secret_can_be_changed_while_a_key_is_stored(
    serve: Serve, database_urls: DatabaseUrls, outside: HuggingFaceServer
) -> None:
    """First every replica can open both, then the new one seals, then the old one is gone."""
    outside.keys[KEY] = GOOD
    old, new = RootSecret(b"old" * 11), RootSecret(b"new" * 11)
    sealed_under: list[str] = []
    for secrets in ([old], [old, new], [new, old], [new]):
        async with server(serve, database_urls, outside, secrets=secrets) as caller:
            if secrets == [old]:
                await caller.set_key(KEY, skip_validation=True)
            assert (await caller.credential()).masked == "hf_…0001"
            assert await caller.search(await caller.collection(), "gout") == []
        sealed_under.append((await stored(database_urls))["kek_id"])
    before, after = (Vault([secret]).kek_id for secret in (old, new))
    assert sealed_under == [before, before, after, after]
    async with server(serve, database_urls, outside, secrets=[old]) as caller:
        credential = await caller.credential()
        assert credential.source == s.CREDENTIAL_SOURCE_UNSPECIFIED
        assert credential.rejected_reason == "PROVIDER_CREDENTIAL_INVALID"
        async with asyncio.timeout(SECONDS):
            while REJECTED not in await caller.actions():  # noqa: ASYNC110
                await asyncio.sleep(0.05)


async def test_a_sealed_key_that_was_changed_is_not_used(
    caller: Caller, database_urls: DatabaseUrls
) -> None:
    await caller.set_key(KEY, skip_validation=True)
    conn = await connect(database_urls.superuser_dsn)
    await conn.execute(
        "update knowledge.provider_credential set event_id = gen_random_uuid(),"
        " ciphertext = set_byte(ciphertext, 3, 255 - get_byte(ciphertext, 3))"
    )
    await conn.close()
    credential = await caller.credential()
    assert credential.rejected_reason == "PROVIDER_CREDENTIAL_INVALID"
    assert credential.masked == "hf_…0001"
