"""HTTP to a provider: no redirects, no log, and the key only where we say."""

import asyncio
from typing import Any, cast

import httpx2
from huggingface_hub.utils import hf_raise_for_status

from knowledged.credentials.api_key import ApiKey
from knowledged.embedding.provider_answers import fault_of
from knowledged.embedding.provider_faults import NO_VECTORS


def http_client() -> httpx2.AsyncClient:
    """Follows no redirects, which would carry texts elsewhere. Time limits are the caller's."""
    hooks: dict[str, list[Any]] = {"request": [_without_empty_authorization]}
    return httpx2.AsyncClient(follow_redirects=False, timeout=None, event_hooks=hooks)


def authorization(key: ApiKey | None) -> dict[str, str]:
    """The header of a request; empty without a key, and then not sent."""
    return {"authorization": f"Bearer {key.reveal()}" if key else ""}


async def get_json(
    http: httpx2.AsyncClient, url: str, key: ApiKey | None, seconds: float
) -> dict[str, Any]:
    """The JSON object at a URL. Raises ProviderAway, ProviderRefuses or TextRefused."""
    try:
        async with asyncio.timeout(seconds):
            response = await http.get(url, headers=authorization(key))
        hf_raise_for_status(response)
        answer: Any = response.json()
    except (OSError, httpx2.HTTPError, ValueError) as error:
        raise fault_of(error) from None
    if not isinstance(answer, dict):
        raise NO_VECTORS.error()
    return cast("dict[str, Any]", answer)


async def _without_empty_authorization(request: httpx2.Request) -> None:
    if not request.headers.get("authorization"):
        request.headers.pop("authorization", None)
