"""`knowledged serve`: opens everything the server needs, serves until SIGTERM or SIGINT, closes."""

import argparse
import asyncio
import gc
import os
import signal
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import structlog
import uvloop

from knowledged import logs, migrate
from knowledged.access import Access
from knowledged.access_file import AccessFileError
from knowledged.app import Running, serving
from knowledged.commands import offering
from knowledged.database import Database
from knowledged.ledger.keys import KeyFileError, KeyRing, make_key_file
from knowledged.metrics import Metrics, serve_metrics
from knowledged.parts import Parts
from knowledged.secret import RootSecret
from knowledged.settings import Settings, SettingsError, unknown_variables

# New objects before the garbage collector looks for cycles (CPython: 700). An answer makes
# hundreds, hardly ever in cycles: it looked for nothing, for a twentieth of the server's time.
_LOOK_AFTER_OBJECTS = 10_000

HELP = "serve until stopped; without a database URL on an embedded PostgreSQL"


@dataclass(frozen=True, slots=True)
class Urls:
    """Where the database is: for serving, and for what needs the owner."""

    server: str
    maintenance: str
    data: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No options: everything is a setting."""


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    logs.configure(settings.log_level)
    uvloop.run(_serve(settings))
    return 0


async def _serve(settings: Settings) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(logs.on_loop_error)
    for line in unknown_variables(os.environ):
        structlog.get_logger().warning("unknown_setting", problem=line)
    stopped = asyncio.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stopped.set)
    async with server(settings) as (running, urls):
        print(_greeting(settings, running, urls), file=sys.stderr, flush=True)
        _look_for_garbage_less()
        await stopped.wait()
        structlog.get_logger().info("server_stopping")


def _look_for_garbage_less() -> None:
    """What is there by now stays until the end, and need not be gone through each time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_LOOK_AFTER_OBJECTS)


@asynccontextmanager
async def server(settings: Settings) -> AsyncGenerator[tuple[Running, Urls]]:
    """A serving server with all it needs; everything is closed in reverse at the end."""
    async with AsyncExitStack() as stack:
        access = _access(settings)
        urls = await stack.enter_async_context(_database_urls(settings))
        parts = await _parts(stack, settings, urls, access)
        if settings.metrics_port:
            with blamed_on("KNOWLEDGED_METRICS_HOST and KNOWLEDGED_METRICS_PORT"):
                exposed = serve_metrics(
                    settings.metrics_host, settings.metrics_port, parts.metrics.registry
                )
            stack.push_async_callback(asyncio.to_thread, exposed.stop)
        yield await stack.enter_async_context(serving(parts)), urls


@asynccontextmanager
async def _database_urls(settings: Settings) -> AsyncGenerator[Urls]:
    """The URLs that were set, or those of an embedded PostgreSQL, which migrates by itself."""
    if settings.database_url is not None:
        own = settings.database_url.get_secret_value()
        maintenance = settings.maintenance_database_url
        yield Urls(own, maintenance.get_secret_value() if maintenance else own, "PostgreSQL")
        return
    # Imported here: it needs a Unix, and an image for production does not carry it.
    from knowledged.embedded import embedded_postgres

    async with embedded_postgres(settings.data_dir) as postgres:
        await migrate.migrate(postgres.owner_dsn)
        yield Urls(postgres.server_dsn, postgres.owner_dsn, f"{postgres.folder} (embedded)")


async def _parts(
    stack: AsyncExitStack, settings: Settings, urls: Urls, access: Access | None
) -> Parts:
    secret, keys = _secret(settings), key_ring(settings)
    database = await _database(settings, urls)
    stack.push_async_callback(database.close)
    metrics = Metrics()
    of = await offering.providers(settings, _secrets(secret, settings), database)
    catalogue = await offering.catalogue(settings, of, metrics)
    for offered in catalogue:
        stack.push_async_callback(offered.embedder.close)
    return Parts(
        settings=settings,
        database=database,
        maintenance_dsn=urls.maintenance,
        catalogue=catalogue,
        providers=of,
        key_check=offering.key_check(settings, catalogue),
        secret=secret,
        access=access,
        metrics=metrics,
        keys=keys,
    )


async def _database(settings: Settings, urls: Urls) -> Database:
    with blamed_on("the embedded PostgreSQL" if settings.embedded else "KNOWLEDGED_DATABASE_URL"):
        return await Database.connect(
            urls.server,
            min_size=settings.pool_min_size,
            max_size=settings.pool_max_size,
            command_timeout_seconds=settings.command_timeout_seconds,
            acquire_timeout_seconds=settings.acquire_timeout_seconds,
        )


def _access(settings: Settings) -> Access | None:
    if settings.access_file is None:
        return None
    try:
        return Access(settings.access_file)
    except AccessFileError as error:
        raise SettingsError(f"KNOWLEDGED_ACCESS_FILE: {error}") from error


def _secret(settings: Settings) -> RootSecret:
    if settings.secret_key_file is not None:
        return RootSecret.read(settings.secret_key_file)
    if not settings.embedded:
        raise SettingsError(
            "KNOWLEDGED_SECRET_KEY_FILE is needed beside KNOWLEDGED_DATABASE_URL: all replicas"
            " must share one root secret (make one with: head -c 32 /dev/urandom | base64)"
        )
    return RootSecret.read_or_make(settings.data_dir / "secret.key")


def _secrets(secret: RootSecret, settings: Settings) -> list[RootSecret]:
    """The root secret, and beside it the other one while it is changed."""
    previous = settings.secret_key_previous_file
    return [secret, RootSecret.read(previous)] if previous else [secret]


def key_ring(settings: Settings) -> KeyRing:
    """The keys that sign checkpoints. Embedded mode makes one; elsewhere none is a warning."""
    private, known = settings.audit_key_file, settings.audit_known_keys_file
    if private is None and not settings.embedded:
        return KeyRing(())
    made = settings.data_dir / "audit.key"
    try:
        if private is None:
            make_key_file(made)
        return KeyRing.read(private or made, known)
    except (KeyFileError, OSError) as error:
        raise SettingsError(
            f"KNOWLEDGED_AUDIT_KEY_FILE or KNOWLEDGED_AUDIT_KNOWN_KEYS_FILE: {_in_words(error)}"
        ) from error


@contextmanager
def blamed_on(setting: str) -> Generator[None]:
    """What the machine or the database refuses is told in one line that says where to mend it."""
    try:
        yield
    except (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise SettingsError(f"{setting}: {_in_words(error)}") from error


def _in_words(error: Exception) -> str:
    """Never the text of a ValueError: a URL that cannot be parsed may hold a password."""
    match error:
        case TimeoutError():
            return "no answer in time"
        case KeyFileError():
            return str(error)
        case OSError():
            return error.strerror or type(error).__name__
        case asyncpg.PostgresError():
            return str(error)
        case ValueError():
            return "is no URL of the form postgresql://user:password@host:port/database"
        case _:
            return type(error).__name__


def _greeting(settings: Settings, running: Running, urls: Urls) -> str:
    address = f"{settings.host}:{running.port}"
    who = "anybody on this machine" if settings.auth == "none" else "holders of a token"
    buf = Path(sys.executable).with_name("buf")
    call = f"{buf if buf.exists() else 'buf'} curl --protocol grpc"
    return (
        f"knowledged serves {who} at {address}; its data lies in {urls.data}\n"
        f"  {call} http://{address}/knowledge.v1.ConfigService/GetServerInfo\n"
        f"  {call} http://{address}/knowledge.v1.KnowledgeService/CreateCollection"
        """ -d '{"collectionId": "notes"}'"""
    )
