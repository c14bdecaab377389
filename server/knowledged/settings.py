"""Every setting of the server, and the only place that reads the environment.

A setting `x` comes from `KNOWLEDGED_X`. Units stand in the names: seconds, bytes, and plain counts.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

PREFIX = "KNOWLEDGED_"


def _origin(name: str) -> str:
    if not name or "+" in name or any(c.isspace() or not c.isprintable() for c in name):
        raise ValueError("must be printable, without spaces and without '+'")
    return name


def _http_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
        raise ValueError("must be an http or https URL without user and password")
    return url


_Port = Annotated[int, Field(ge=0, le=65_535)]
_Count = Annotated[int, Field(ge=1)]
_Seconds = Annotated[float, Field(gt=0, le=86_400)]
_Days = Annotated[int, Field(ge=0, le=36_500)]
_Wait = Annotated[float, Field(ge=0, le=3_600)]


def _words(given: object) -> object:
    return given.replace(",", " ").split() if isinstance(given, str) else given


def _url(given: str) -> str:
    parts = urlsplit(given)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
        raise ValueError("must be http(s)://host[:port][/path], without a user")
    return given.rstrip("/")


_Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)]
_Url = Annotated[str, AfterValidator(_url)]
_Folder = Annotated[Path, AfterValidator(Path.absolute)]

# Each of these may also come as a file that holds it: its variable with _FILE.
_SECRETS = {
    "database_url": "KNOWLEDGED_DATABASE_URL",
    "maintenance_database_url": "KNOWLEDGED_MAINTENANCE_DATABASE_URL",
    "hugging_face_api_key": "HUGGING_FACE_API_KEY",
}


class SettingsError(Exception):
    """The settings cannot be used; the message names every variable at fault, and no value."""


class Settings(BaseSettings):
    """The server's settings, checked and fixed at start-up."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        populate_by_name=True,
        validate_default=True,
    )

    # Where it listens. Port 0 takes a free one; metrics_port 0 serves no metrics.
    host: str = "127.0.0.1"
    port: _Port = 50_051
    metrics_host: str = "127.0.0.1"
    metrics_port: _Port = 9_464
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    tls_client_ca_file: Path | None = None

    # Who may call, and the root secret (made by itself in embedded mode).
    auth: Literal["none", "token"] = "none"
    access_file: Path | None = None
    secret_key_file: Path | None = None
    # While the root secret is changed: the other one, so that what it sealed can be opened.
    secret_key_previous_file: Path | None = None
    # For commands that call a server: the caller's token.
    token_file: Path | None = None

    # The database: without a URL, an embedded one below data_dir.
    data_dir: _Folder = Path(".data")
    database_url: SecretStr | None = None
    database_url_file: Path | None = None
    maintenance_database_url: SecretStr | None = None
    maintenance_database_url_file: Path | None = None
    pool_min_size: _Count = 4
    pool_max_size: _Count = 16
    command_timeout_seconds: _Seconds = 30.0
    acquire_timeout_seconds: _Seconds = 5.0

    # Whether a read waits until its audit event is committed.
    audit_reads: Literal["durable", "eventual"] = "durable"

    # How long audit events are kept, by class; 0 keeps them for ever.
    audit_read_retention_days: _Days = 2_192
    audit_write_retention_days: _Days = 2_192
    audit_admin_retention_days: _Days = 2_192

    # How much at once. calls_per_second_per_subject 0 sets no rate.
    max_concurrent_calls: _Count = 1_024
    max_concurrent_calls_per_subject: _Count = 512
    calls_per_second_per_subject: Annotated[float, Field(ge=0)] = 0.0

    # Stopping: NOT_SERVING, wait for clients to notice, then the grace for calls under way.
    shutdown_wait_seconds: _Wait = 0.0
    shutdown_grace_seconds: _Wait = 10.0

    # Limits that GetServerInfo announces.
    max_message_bytes: Annotated[int, Field(ge=65_536, le=64 * 2**20)] = 4 * 2**20
    max_content_characters: Annotated[int, Field(ge=1, le=4_000_000)] = 1_000_000
    max_batch_items: Annotated[int, Field(ge=1, le=10_000)] = 1_000
    max_page_size: Annotated[int, Field(ge=1, le=10_000)] = 1_000
    default_page_size: _Count = 50
    max_search_limit: Annotated[int, Field(ge=1, le=1_000)] = 1_000
    max_embed_texts: _Count = 256
    # An export holds a connection, and a snapshot that keeps the database from cleaning up.
    max_export_seconds: Annotated[int, Field(ge=1, le=86_400)] = 600
    max_concurrent_exports: _Count = 4

    # The recall@10 that searches by index should have, for which the server chooses each index's
    # ef, and how large that may become. wanted_recall 0 leaves every ef as it is.
    wanted_recall: Annotated[float, Field(ge=0, le=1)] = 0.98
    largest_ef: Annotated[int, Field(ge=1, le=1_000)] = 400

    # Embedding: threads of the local model, texts that may wait for it, tasks that embed chunks
    # of documents too large to embed at once (more chunks than inline_chunks).
    embedding_threads: _Count = 2
    embedding_queue_size: _Count = 4_096
    text_workers: Annotated[int, Field(ge=0, le=64)] = 1
    inline_chunks: Annotated[int, Field(ge=0)] = 64

    # Models. Local ones: "bundled", folders, ids of the Hub; remote ones as
    # id[@revision]:dimension[:max_tokens]. The URL serves the one remote model, not the router.
    local_models: _Words = ("bundled",)
    hugging_face_models: _Words = ()
    hugging_face_url: _Url | None = None
    hugging_face_router_url: _Url = "https://router.huggingface.co"
    hugging_face_hub_url: _Url = "https://huggingface.co"
    default_model: str | None = None
    # The key's file is followed while we serve, so it is not read here.
    hugging_face_api_key: SecretStr | None = Field(None, validation_alias="HUGGING_FACE_API_KEY")
    hugging_face_api_key_file: Path | None = Field(
        None, validation_alias="HUGGING_FACE_API_KEY_FILE"
    )

    # The audit log: how often and how much at once is sequenced, how much may wait, how often a
    # checkpoint is signed, by which key, under which name, and where it goes.
    audit_sequence_interval_seconds: _Seconds = 0.5
    audit_sequence_batch_events: Annotated[int, Field(ge=1, le=100_000)] = 2_000
    audit_backlog_limit_events: Annotated[int, Field(ge=1, le=100_000_000)] = 1_000_000
    audit_checkpoint_interval_seconds: _Seconds = 5.0
    audit_key_file: Path | None = None
    audit_known_keys_file: Path | None = None
    audit_origin: Annotated[str, Field(max_length=200), AfterValidator(_origin)] | None = None
    audit_checkpoint_folder: Path | None = None
    audit_checkpoint_url: Annotated[str, AfterValidator(_http_url)] | None = None

    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @property
    def embedded(self) -> bool:
        """Whether the server brings its own PostgreSQL."""
        return self.database_url is None

    @model_validator(mode="before")
    @classmethod
    def _secrets_from_files(cls, given: dict[str, Any]) -> dict[str, Any]:
        given = {key if key in cls.model_fields else _field(key): given[key] for key in given}
        for name, variable in _SECRETS.items():
            file = given.get(f"{name}_file")
            if file and given.get(name):
                raise ValueError(f"{variable} and {variable}_FILE are both set; set one of them")
            if file and name != "hugging_face_api_key":
                given[name] = _read_secret(Path(file), f"{variable}_FILE")
        return given

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        problems = [text for broken, text in _rules(self) if broken]
        if problems:
            raise ValueError("; ".join(problems))
        return self


def load(**given: Any) -> Settings:
    """The settings from the environment, `given` ones before those; raises SettingsError."""
    try:
        return Settings(**given)
    except ValidationError as error:
        problems = error.errors(include_input=False, include_url=False, include_context=False)
        raise SettingsError("\n".join(_problem(p["loc"], p["msg"]) for p in problems)) from None


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """A line for each `KNOWLEDGED_*` variable that is no setting, with the likely meant one."""
    known = {_variable(name) for name in Settings.model_fields}
    strange = sorted(n for n in environment if n.startswith(PREFIX) and n not in known)
    return [_strange(name, known) for name in strange]


def _rules(settings: Settings) -> list[tuple[bool, str]]:
    """Whether each rule over several settings is broken, and what to do then."""
    tls = settings.tls_cert_file, settings.tls_key_file
    return [
        (
            settings.auth == "none" and not _is_loopback(settings.host),
            "KNOWLEDGED_AUTH=none serves anybody, so KNOWLEDGED_HOST must be a loopback address;"
            " set KNOWLEDGED_AUTH=token and KNOWLEDGED_ACCESS_FILE to serve other machines",
        ),
        (
            settings.auth == "token" and settings.access_file is None,
            "KNOWLEDGED_AUTH=token needs KNOWLEDGED_ACCESS_FILE (`knowledged token` makes entries)",
        ),
        (
            (tls[0] is None) != (tls[1] is None),
            "KNOWLEDGED_TLS_CERT_FILE and KNOWLEDGED_TLS_KEY_FILE go together",
        ),
        (
            settings.tls_client_ca_file is not None and tls[0] is None,
            "KNOWLEDGED_TLS_CLIENT_CA_FILE needs KNOWLEDGED_TLS_CERT_FILE",
        ),
        (
            not settings.local_models,
            "KNOWLEDGED_LOCAL_MODELS must name a model; `bundled` is the one that is here",
        ),
        (
            settings.hugging_face_url is not None and len(settings.hugging_face_models) != 1,
            "KNOWLEDGED_HUGGING_FACE_URL serves one model: name that one in"
            " KNOWLEDGED_HUGGING_FACE_MODELS",
        ),
        (
            any(map(_is_open, (settings.hugging_face_router_url, settings.hugging_face_hub_url))),
            "KNOWLEDGED_HUGGING_FACE_ROUTER_URL and KNOWLEDGED_HUGGING_FACE_HUB_URL get the key:"
            " they must be https, or on this machine",
        ),
        (
            settings.pool_min_size > settings.pool_max_size,
            "KNOWLEDGED_POOL_MIN_SIZE is above KNOWLEDGED_POOL_MAX_SIZE",
        ),
        (
            settings.default_page_size > settings.max_page_size,
            "KNOWLEDGED_DEFAULT_PAGE_SIZE is above KNOWLEDGED_MAX_PAGE_SIZE",
        ),
    ]


def _is_open(url: str) -> bool:
    """Whether others could read what goes there."""
    parts = urlsplit(url)
    return parts.scheme != "https" and not _is_loopback(parts.hostname or "")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _read_secret(path: Path, variable: str) -> str:
    try:
        text = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{variable}: cannot be read: {type(error).__name__}") from None
    if not text:
        raise ValueError(f"{variable}: the file is empty")
    return text


def _field(variable: str) -> str:
    return variable.lower() if variable.startswith("HUGGING_FACE_API_KEY") else variable


def _variable(field: str) -> str:
    return field.upper() if field.startswith("hugging_face_api_key") else PREFIX + field.upper()


def _problem(location: tuple[int | str, ...], message: str) -> str:
    message = message.removeprefix("Value error, ")
    return f"{_variable(str(location[0]))}: {message}" if location else message


def _strange(name: str, known: set[str]) -> str:
    meant = get_close_matches(name, known, 1)
    return f"{name} is no setting" + (f"; did you mean {meant[0]}?" if meant else "")
