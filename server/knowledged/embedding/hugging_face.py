"""The wire to Hugging Face: Inference Providers by its router, or a TEI or Inference Endpoint.

One request for a few texts, the key asked for by name, every failure one of our causes. Nothing of
what the provider says reaches an error or a log: it may repeat texts or the key.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast
from urllib.parse import urlsplit

import httpx2
import numpy as np
from huggingface_hub import AsyncInferenceClient, set_async_client_factory
from numpy.typing import NDArray

from knowledged.credentials.api_key import ApiKey
from knowledged.embedding.provider_answers import fault_of
from knowledged.embedding.provider_faults import (
    MISMATCH,
    NO_VECTORS,
    OF_THE_KEY,
    ProviderRefuses,
    TextRefused,
)
from knowledged.embedding.provider_http import authorization, get_json, http_client

# What TEI takes at once unless it is told otherwise; the router's servers are TEI, too.
MOST_TEXTS = 32
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class HubAddress:
    """Where Hugging Face is; mirrors and proxies have addresses of their own."""

    router: str = "https://router.huggingface.co"
    hub: str = "https://huggingface.co"


@dataclass(frozen=True, slots=True)
class RemoteModel:
    """A model that a provider serves. `url` of a TEI or endpoint; empty: the router serves it.

    `revision` is the commit on the Hub that must answer; empty: any.
    """

    model_id: str
    dimension: int
    max_tokens: int
    revision: str = ""
    url: str = ""


class HubAccount:
    """Asks the Hub whose a key is."""

    def __init__(self, address: HubAddress) -> None:
        self._url = f"{address.hub}/api/whoami-v2"

    async def expiry(self, key: ApiKey, seconds: float) -> datetime | None:
        """When a good key ends, if the Hub tells. Raises ProviderAway or ProviderRefuses."""
        async with http_client() as http:
            account = await get_json(http, self._url, key, seconds)
        token = account.get("auth", {}).get("accessToken", {})
        with suppress(ValueError, TypeError, KeyError):
            return datetime.fromisoformat(token["expiresAt"])
        return None


class HuggingFaceClient:
    """Asks one provider address for the vectors of one model."""

    def __init__(self, model: RemoteModel, address: HubAddress) -> None:
        self._model = model
        self._hub_url = address.hub
        routed = f"{address.router}/hf-inference/models/{model.model_id}"
        # A URL in place of an id: with an id the library asks the Hub first, blocking the loop.
        self._url = model.url or f"{routed}/pipeline/feature-extraction"
        self.needs_key = not model.url
        self.most_texts = MOST_TEXTS
        set_async_client_factory(http_client)
        # Any token here keeps the library from looking for one of this machine's user.
        self._inference = AsyncInferenceClient(self._url, token="unused")  # noqa: S106
        self._http = http_client()

    def takes(self, key: ApiKey | None) -> ApiKey | None:
        """The key if it may go to this address: never in clear over a network."""
        parts = urlsplit(self._url)
        return key if parts.scheme == "https" or parts.hostname in _LOOPBACK else None

    async def embed(self, texts: Sequence[str], key: ApiKey | None, seconds: float) -> Vectors:
        """Unit vectors of at most `most_texts` texts, cut at what the model reads.

        Raises ProviderAway, ProviderRefuses or TextRefused.
        """
        try:
            async with asyncio.timeout(seconds):
                found = await self._extract(texts, key)
        except (OSError, httpx2.HTTPError, ValueError, TypeError) as error:
            raise fault_of(error) from None
        return self._unit(found, len(texts))

    async def check_identity(self, key: ApiKey | None, seconds: float) -> None:
        """Raises ProviderRefuses if another model answers than was configured, as far as it tells.

        TEI tells id and revision at /info. For the router the Hub tells its revision.
        """
        if self._model.url:
            await self._check_server(key, seconds)
        elif self._model.revision:
            about = f"{self._hub_url}/api/models/{self._model.model_id}"
            found = await get_json(self._http, about, key, seconds)
            self._compare("", found.get("sha"))

    async def close(self) -> None:
        await self._inference.close()
        await self._http.aclose()

    async def _extract(self, texts: Sequence[str], key: ApiKey | None) -> Vectors:
        # Read by the library before it first waits, so calls do not see each other's.
        self._inference.headers = authorization(key)
        return await self._inference.feature_extraction(list(texts), normalize=True, truncate=True)

    async def _check_server(self, key: ApiKey | None, seconds: float) -> None:
        parts = urlsplit(self._url)
        try:
            info = f"{parts.scheme}://{parts.netloc}/info"
            found = await get_json(self._http, info, key, seconds)
        except (TextRefused, ProviderRefuses) as error:
            if error.reason in OF_THE_KEY:
                raise
            # An endpoint that is no TEI tells nothing of itself.
            found = dict[str, Any]()
        most = cast("int | None", found.get("max_client_batch_size"))
        self.most_texts = min(MOST_TEXTS, most or MOST_TEXTS)
        self._compare(str(found.get("model_id") or ""), found.get("model_sha"))

    def _compare(self, model_id: str, revision: str | None) -> None:
        # A server that was started from a folder tells the folder.
        is_hub_id = model_id.count("/") == 1 and not model_id.startswith(("/", "."))
        if is_hub_id and model_id != self._model.model_id:
            raise MISMATCH.error()
        if self._model.revision and revision != self._model.revision:
            raise MISMATCH.error()

    def _unit(self, found: Vectors, texts: int) -> Vectors:
        if found.ndim != 2 or len(found) != texts:
            raise NO_VECTORS.error()
        if found.shape[1] != self._model.dimension:
            raise MISMATCH.error()
        lengths = np.linalg.norm(found, axis=1, keepdims=True)
        if not np.isfinite(lengths).all() or not lengths.all():
            raise NO_VECTORS.error()
        return np.ascontiguousarray(found / lengths, dtype=np.float32)
