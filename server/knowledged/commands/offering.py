"""The models and keys that a server's settings ask for."""

import asyncio
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import structlog

from knowledged.credentials.api_key import ApiKey, MalformedKey
from knowledged.credentials.key_file import KeyFile
from knowledged.credentials.keys import INVALID, Held, Keys, Source
from knowledged.credentials.stored_key import StoredKey
from knowledged.credentials.vault import Vault
from knowledged.database import Database
from knowledged.embedding import bundled, hub, model_folder
from knowledged.embedding.breaker import Condition, State
from knowledged.embedding.catalogue import HUGGING_FACE, Catalogue, Offered
from knowledged.embedding.chunker import Chunker
from knowledged.embedding.hugging_face import (
    HubAccount,
    HubAddress,
    HuggingFaceClient,
    RemoteModel,
)
from knowledged.embedding.key_check import KeyCheck
from knowledged.embedding.local import LocalEmbedder
from knowledged.embedding.model_files import ModelFiles
from knowledged.embedding.provider_faults import cause_of
from knowledged.embedding.remote import Observer, RemoteEmbedder
from knowledged.embedding.tokenizer import TextTokenizer
from knowledged.errors import DomainError
from knowledged.metrics import Metrics
from knowledged.notices import Notice, Notices
from knowledged.secret import RootSecret
from knowledged.services.providers import Providers
from knowledged.settings import Settings, SettingsError

BUNDLED = "bundled"
DEFAULT_MAX_TOKENS = 254
_REMOTE = re.compile(r"(?P<id>[^@:]+)(@(?P<revision>[0-9a-f]{7,64}))?:(?P<dim>\d+)(:(?P<max>\d+))?")
# A provider that comes and goes is told of once a minute.
_QUIET_SECONDS = 60.0


async def providers(settings: Settings, secrets: list[RootSecret], database: Database) -> Providers:
    """The keys of settings and database, in use before the first model is loaded with them."""
    notices = Notices()
    keys = Keys(HUGGING_FACE, notices)
    file = settings.hugging_face_api_key_file
    key_file = KeyFile(file, keys) if file else None
    _offer_environment(settings, keys)
    if key_file:
        key_file.take(key_file.look())
    stored = StoredKey(keys, Vault(secrets))
    await _refresh(stored, database)
    return Providers(keys, stored, notices, key_file)


def _offer_environment(settings: Settings, keys: Keys) -> None:
    if settings.hugging_face_api_key is None:
        return
    try:
        key = ApiKey(settings.hugging_face_api_key.get_secret_value())
    except MalformedKey as error:
        structlog.get_logger().error("provider_key_rejected", problem=str(error))
        keys.unusable(Source.ENVIRONMENT, INVALID)
    else:
        keys.offer(Held(key, Source.ENVIRONMENT, datetime.now(UTC)))


async def _refresh(stored: StoredKey, database: Database) -> None:
    """An older schema has no such table yet; the keeper looks again when it is migrated."""
    try:
        async with database.read() as conn:
            await stored.refresh(conn)
    except Exception as error:
        structlog.get_logger().warning("provider_key_unknown", error=type(error).__name__)


async def catalogue(settings: Settings, of: Providers, metrics: Metrics) -> Catalogue:
    """Every model of the settings, the local ones loaded. Raises SettingsError."""
    local = [await _local(spec, settings, of.keys) for spec in settings.local_models]
    return with_remote(settings, of, metrics, local)


def with_remote(
    settings: Settings, of: Providers, metrics: Metrics, local: list[Offered]
) -> Catalogue:
    """The local models, and the remote ones of the settings, whose text the first one counts."""
    offered = list(local)
    for spec in settings.hugging_face_models:
        model = remote_model(spec, settings.hugging_face_url or "")
        offered.append(_remote(model, settings, of, local[0].chunker, metrics))
    try:
        return Catalogue(offered, settings.default_model)
    except ValueError as error:
        raise SettingsError(
            f"KNOWLEDGED_LOCAL_MODELS, _HUGGING_FACE_MODELS and _DEFAULT_MODEL: {error}"
        ) from None


def key_check(settings: Settings, models: Catalogue) -> KeyCheck:
    return KeyCheck(HubAccount(_address(settings)), models.remote)


def remote_model(spec: str, url: str) -> RemoteModel:
    """`id[@revision]:dimension[:max_tokens]`. Raises SettingsError."""
    match = _REMOTE.fullmatch(spec)
    if match is None or not 1 <= int(match["dim"]) <= 1_900 or len(match["id"]) > 128:
        raise SettingsError(
            "KNOWLEDGED_HUGGING_FACE_MODELS: an entry must be id[@revision]:dimension[:max_tokens],"
            " such as sentence-transformers/all-MiniLM-L6-v2:384; the dimension is 1 to 1900"
        )
    max_tokens = int(match["max"] or DEFAULT_MAX_TOKENS)
    if not 16 <= max_tokens <= model_folder.LONGEST:
        raise SettingsError("KNOWLEDGED_HUGGING_FACE_MODELS: max_tokens must be 16 to 8192")
    return RemoteModel(match["id"], int(match["dim"]), max_tokens, match["revision"] or "", url)


def _remote(
    model: RemoteModel,
    settings: Settings,
    of: Providers,
    chunker: Chunker,
    metrics: Metrics,
) -> Offered:
    counters = metrics.of_provider(HUGGING_FACE, model.model_id)
    told = _told(model, of.notices)

    def changed(condition: Condition) -> None:
        counters.changed(condition.state)
        told(condition)

    embedder = RemoteEmbedder(
        model,
        HuggingFaceClient(model, _address(settings)),
        of.keys,
        chunker.tokenizer,
        Observer(changed, counters.asked),
        max_waiting=settings.embedding_queue_size,
    )
    return Offered(embedder, chunker)


def _told(model: RemoteModel, notices: Notices) -> Callable[[Condition], None]:
    """Makes a notice of a new condition, unless the same was told a moment ago."""
    before: dict[tuple[State, str], float] = {}

    def tell(condition: Condition) -> None:
        seen = condition.state, condition.reason
        now = time.monotonic()
        if now - before.get(seen, -_QUIET_SECONDS) < _QUIET_SECONDS:
            return
        before[seen] = now
        reason, about = condition.reason, (f"providers/{HUGGING_FACE}", f"models/{model.model_id}")
        if reason:
            notices.note(Notice("providers.fail", about, cause_of(reason).kind.code, reason))
        else:
            notices.note(Notice("providers.ready", about))

    return tell


async def _local(spec: str, settings: Settings, keys: Keys) -> Offered:
    try:
        files = await asyncio.to_thread(_files, spec, settings, keys)
        tokenizer = TextTokenizer(files.tokenizer)
        embedder = LocalEmbedder(
            files,
            tokenizer,
            threads=settings.embedding_threads,
            max_waiting=settings.embedding_queue_size,
        )
    except DomainError as error:
        raise SettingsError(f"KNOWLEDGED_LOCAL_MODELS: {error.message}") from error
    return Offered(embedder, Chunker(tokenizer))


def _files(spec: str, settings: Settings, keys: Keys) -> ModelFiles:
    if spec == BUNDLED:
        return bundled.locate()
    if spec.startswith(("/", ".")):
        folder = Path(spec).absolute()
        return model_folder.locate(folder, folder.name)
    model_id, _, revision = spec.partition("@")
    key = keys.current.key if keys.current else None
    return hub.locate(model_id, revision or None, key, settings.hugging_face_hub_url)


def _address(settings: Settings) -> HubAddress:
    return HubAddress(settings.hugging_face_router_url, settings.hugging_face_hub_url)
