"""A remote embedder that asks the provider outside, and what it told on its way."""

import zlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from hugging_face_server import GOOD, MODEL, HuggingFaceServer
from knowledged.credentials.api_key import ApiKey
from knowledged.credentials.keys import Held, Keys, Source
from knowledged.embedding.breaker import Condition
from knowledged.embedding.hugging_face import HubAddress, HuggingFaceClient, RemoteModel
from knowledged.embedding.remote import Observer, RemoteEmbedder
from knowledged.notices import Notices
from served import Model

KEY = "hf_conformancekeyconformancekey01"
OTHER_KEY = "hf_anotherkeyanotherkeyanother02"


def cheap_vectors(texts: Sequence[str]) -> Any:
    """The same for the same text, and far from those of others."""
    rows = [np.random.default_rng(zlib.crc32(text.encode())).standard_normal(384) for text in texts]
    return np.array(rows)


def held(text: str, source: Source = Source.STORED) -> Held:
    return Held(ApiKey(text), source, datetime.now(UTC))


@dataclass(frozen=True, slots=True)
class Asking:
    """The embedder with its keys, the conditions it went through, each request's outcome."""

    embedder: RemoteEmbedder
    keys: Keys
    conditions: list[Condition] = field(default_factory=list[Condition])
    outcomes: list[str] = field(default_factory=list[str])

    async def embed(self, *texts: str, **more: Any) -> Any:
        return await self.embedder.embed(texts or ("gout",), **more)


@asynccontextmanager
async def asking(
    outside: HuggingFaceServer, model: Model, url: str = "", key: str = KEY, **described: Any
) -> AsyncIterator[Asking]:
    """By the router with a good key, or at `url`; `described` as of RemoteModel."""
    outside.keys.setdefault(KEY, GOOD)
    keys = Keys("huggingface", Notices())
    if key:
        keys.offer(held(key, Source.ENVIRONMENT))
    about = {"model_id": MODEL, "dimension": 384, "max_tokens": 254, "url": url} | described
    remote = RemoteModel(**about)
    conditions: list[Condition] = []
    outcomes: list[str] = []
    observer = Observer(conditions.append, lambda outcome, *_: outcomes.append(outcome))
    client = HuggingFaceClient(remote, HubAddress(outside.url, outside.url))
    embedder = RemoteEmbedder(remote, client, keys, model.chunker.tokenizer, observer)
    try:
        yield Asking(embedder, keys, conditions, outcomes)
    finally:
        await embedder.close()
