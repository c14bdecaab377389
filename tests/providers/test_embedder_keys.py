"""A provider's key: when it is asked with, taken into use, refused and kept."""

import pytest
from embedding_calls import KEY, OTHER_KEY, asking, held

from hugging_face_server import (
    EXPIRED,
    GOOD,
    MODEL,
    HuggingFaceServer,
)
from knowledged.embedding.provider_faults import (
    ProviderRefuses,
)
from served import Model


async def test_without_a_key_the_router_is_not_asked(
    outside: HuggingFaceServer, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_ofthemachinesuserofthemachine")
    async with asking(outside, model, key="") as asked:
        with pytest.raises(ProviderRefuses) as refused:
            await asked.embed()
        assert refused.value.reason == "PROVIDER_CREDENTIAL_MISSING"
    assert outside.asked == []


async def test_a_tei_needs_no_key_and_gets_none_of_the_machines_user(
    outside: HuggingFaceServer, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_ofthemachinesuserofthemachine")
    async with asking(outside, model, outside.tei, key="") as asked:
        await asked.embed()
    assert "ofthemachines" not in outside.seen()
    assert all("authorization" not in {k.lower() for k in each.headers} for each in outside.asked)


async def test_a_new_key_that_is_refused_leaves_the_last_good_one_and_fails_nobody(
    outside: HuggingFaceServer, model: Model
) -> None:
    async with asking(outside, model) as asked:
        await asked.embed()
        asked.keys.offer(held(OTHER_KEY))
        assert (await asked.embed()).shape == (1, 384)
        current = asked.keys.current
        assert current
        assert current.key.reveal() == KEY
        assert asked.keys.rejected_reason == "PROVIDER_CREDENTIAL_INVALID"
        assert [each.key for each in outside.embedded] == [KEY, OTHER_KEY, KEY]
        await asked.embed()
        assert outside.embedded[-1].key == KEY


async def test_a_key_that_was_good_and_is_refused_was_revoked(
    outside: HuggingFaceServer, model: Model
) -> None:
    async with asking(outside, model) as asked:
        await asked.embed()
        del outside.keys[KEY]
        with pytest.raises(ProviderRefuses) as refused:
            await asked.embed()
        assert refused.value.reason == "PROVIDER_CREDENTIAL_REVOKED"
        tries = len(outside.embedded)
        with pytest.raises(ProviderRefuses, match="revoked"):
            await asked.embed()
        assert len(outside.embedded) == tries


async def test_a_new_key_is_tried_at_once_after_a_refused_one(
    outside: HuggingFaceServer, model: Model
) -> None:
    outside.keys[KEY] = EXPIRED
    async with asking(outside, model) as asked:
        with pytest.raises(ProviderRefuses) as refused:
            await asked.embed()
        assert refused.value.reason == "PROVIDER_CREDENTIAL_EXPIRED"
        outside.keys[OTHER_KEY] = GOOD
        asked.keys.offer(held(OTHER_KEY))
        assert (await asked.embed()).shape == (1, 384)


@pytest.mark.parametrize("url", ["http://tei.example:8080", "http://10.0.0.7/embed"])
def test_a_key_does_not_go_in_clear_over_a_network(url: str) -> None:
    from knowledged.embedding.hugging_face import (
        HubAddress,
        HuggingFaceClient,
        RemoteModel,
    )

    client = HuggingFaceClient(RemoteModel(MODEL, 384, 254, "", url), HubAddress())
    assert client.takes(held(KEY).key) is None
    secure = RemoteModel(MODEL, 384, 254, "", url.replace("http", "https"))
    assert HuggingFaceClient(secure, HubAddress()).takes(held(KEY).key) is not None
