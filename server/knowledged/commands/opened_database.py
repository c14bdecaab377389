"""The database of a command: the one that is set, or the embedded one, which it starts."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from knowledged.commands.serve import blamed_on
from knowledged.database import Database
from knowledged.settings import Settings


@asynccontextmanager
async def opened_database(settings: Settings) -> AsyncGenerator[Database]:
    """As the serving role. While a server runs on the embedded database nobody else can."""
    async with _url(settings) as url:
        with blamed_on(
            "the embedded PostgreSQL" if settings.embedded else "KNOWLEDGED_DATABASE_URL"
        ):
            database = await Database.connect(
                url,
                min_size=1,
                max_size=2,
                command_timeout_seconds=settings.command_timeout_seconds,
                acquire_timeout_seconds=settings.acquire_timeout_seconds,
            )
        try:
            yield database
        finally:
            await database.close()


@asynccontextmanager
async def _url(settings: Settings) -> AsyncGenerator[str]:
    if settings.database_url is not None:
        yield settings.database_url.get_secret_value()
        return
    from knowledged.embedded import embedded_postgres

    async with embedded_postgres(settings.data_dir) as postgres:
        yield postgres.server_dsn
