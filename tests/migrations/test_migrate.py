"""The migration runner, on folders of small migrations."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cluster import DatabaseUrls
from knowledged.connection import Connection, connect
from knowledged.migrate import (
    MigrationError,
    State,
    latest_version,
    migrate,
    schema_version,
    status,
)

FIRST = "create table knowledge.first (n int);\ncreate index first_n on knowledge.first (n);\n"
SECOND = "create table knowledge.second (n int);\ninsert into knowledge.second values (1);\n"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    write(tmp_path, "0001_first.sql", FIRST)
    write(tmp_path, "0002_second.sql", SECOND)
    return tmp_path


@pytest.fixture
async def conn(bare_urls: DatabaseUrls) -> AsyncIterator[Connection]:
    conn = await connect(bare_urls.owner_dsn)
    yield conn
    await conn.close()


def write(directory: Path, name: str, content: str) -> None:
    (directory / name).write_text(content)


async def states(urls: DatabaseUrls, directory: Path) -> list[tuple[int, State]]:
    return [(each.version, each.state) for each in await status(urls.owner_dsn, directory)]


async def test_files_are_applied_once_each_in_order(
    bare_urls: DatabaseUrls, directory: Path, conn: Connection
) -> None:
    applied = await migrate(bare_urls.owner_dsn, directory)
    again = await migrate(bare_urls.owner_dsn, directory)
    rows = await conn.fetch("select * from knowledge.schema_migration order by applied_at")
    assert [each.label for each in applied] == ["0001_first", "0002_second"]
    assert again == []
    assert [(row["version"], row["name"]) for row in rows] == [(1, "first"), (2, "second")]
    assert [row["checksum"] for row in rows] == [each.checksum for each in applied]
    assert await conn.fetchval("select count(*) from knowledge.second") == 1


async def test_a_new_file_is_applied_to_an_older_database(
    bare_urls: DatabaseUrls, directory: Path, conn: Connection
) -> None:
    await migrate(bare_urls.owner_dsn, directory)
    write(directory, "0003_third.sql", "alter table knowledge.first add m int")
    assert await states(bare_urls, directory) == [
        (1, State.APPLIED),
        (2, State.APPLIED),
        (3, State.PENDING),
    ]
    assert [each.version for each in await migrate(bare_urls.owner_dsn, directory)] == [3]
    assert await schema_version(conn) == 3


async def test_status_and_version_change_nothing_in_an_empty_database(
    bare_urls: DatabaseUrls, directory: Path, conn: Connection
) -> None:
    assert await states(bare_urls, directory) == [(1, State.PENDING), (2, State.PENDING)]
    assert await schema_version(conn) == 0
    assert await conn.fetchval("select to_regnamespace('knowledge')") is None


async def test_a_changed_file_is_named_and_nothing_is_applied(
    bare_urls: DatabaseUrls, directory: Path, conn: Connection
) -> None:
    await migrate(bare_urls.owner_dsn, directory)
    write(directory, "0001_first.sql", FIRST + "-- a word more\n")
    write(directory, "0003_third.sql", "create table knowledge.third (n int)")
    with pytest.raises(MigrationError, match="0001_first was changed"):
        await migrate(bare_urls.owner_dsn, directory)
    assert (await states(bare_urls, directory))[0] == (1, State.CHANGED)
    assert await schema_version(conn) == 2


async def test_a_database_of_a_newer_release_is_refused(
    bare_urls: DatabaseUrls, directory: Path
) -> None:
    await migrate(bare_urls.owner_dsn, directory)
    (directory / "0002_second.sql").unlink()
    with pytest.raises(MigrationError, match=r"0002_second.*newer"):
        await migrate(bare_urls.owner_dsn, directory)
    assert await states(bare_urls, directory) == [(1, State.APPLIED), (2, State.UNKNOWN)]


async def test_a_hole_in_what_was_applied_is_refused(
    bare_urls: DatabaseUrls, directory: Path, conn: Connection
) -> None:
    await migrate(bare_urls.owner_dsn, directory)
    await conn.execute("delete from knowledge.schema_migration where version = 1")
    with pytest.raises(MigrationError, match="0001_first is not applied, but later ones are"):
        await migrate(bare_urls.owner_dsn, directory)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("0004_gap.sql", "0004_gap stands where number 0003 should"),
        ("0002_twice.sql", "0002_twice stands where number 0003 should"),
        ("3_short.sql", "no name for a migration"),
        ("0003_Upper-Case.sql", "no name for a migration"),
    ],
)
async def test_wrong_numbers_and_names_are_refused(
    bare_urls: DatabaseUrls, directory: Path, conn: Connection, name: str, said: str
) -> None:
    write(directory, name, "select 1")
    with pytest.raises(MigrationError, match=said):
        await migrate(bare_urls.owner_dsn, directory)
    assert await schema_version(conn) == 0


async def test_a_folder_without_migrations_is_refused(
    bare_urls: DatabaseUrls, tmp_path: Path
) -> None:
    with pytest.raises(MigrationError, match="holds no migrations"):
        await migrate(bare_urls.owner_dsn, tmp_path)


async def test_a_failing_file_is_rolled_back_and_named_with_its_line(
    bare_urls: DatabaseUrls, directory: Path, conn: Connection
) -> None:
    write(directory, "0003_third.sql", "create table knowledge.third (n int);\nselect wrong;\n")
    write(directory, "0004_fourth.sql", "select 1")
    with pytest.raises(MigrationError, match=r'0003_third failed: .*"wrong".*\(line 2\)'):
        await migrate(bare_urls.owner_dsn, directory)
    assert await schema_version(conn) == 2
    assert await conn.fetchval("select to_regclass('knowledge.third')") is None
    write(directory, "0003_third.sql", "create table knowledge.third (n int)")
    assert [each.version for each in await migrate(bare_urls.owner_dsn, directory)] == [3, 4]


async def test_a_failure_repeats_no_value(bare_urls: DatabaseUrls, directory: Path) -> None:
    write(
        directory,
        "0003_third.sql",
        "create table knowledge.t (s text primary key); insert into knowledge.t"
        " values ('a name'), ('a name')",
    )
    with pytest.raises(MigrationError, match="duplicate key") as raised:
        await migrate(bare_urls.owner_dsn, directory)
    assert "a name" not in str(raised.value)


async def test_of_eight_that_race_each_file_is_applied_by_one(
    bare_urls: DatabaseUrls, directory: Path, conn: Connection
) -> None:
    write(
        directory,
        "0003_index.sql",
        "-- no transaction\ncreate index concurrently second_n on knowledge.second (n)",
    )
    results = await asyncio.gather(*(migrate(bare_urls.owner_dsn, directory) for _ in range(8)))
    assert sorted(len(applied) for applied in results) == [0] * 7 + [3]
    assert await schema_version(conn) == 3
    assert await conn.fetchval("select count(*) from knowledge.second") == 1
    assert await conn.fetchval(
        "select indisvalid from pg_index where indexrelid = 'knowledge.second_n'::regclass"
    )


async def test_a_failing_file_without_transaction_stays_pending(
    bare_urls: DatabaseUrls, directory: Path, conn: Connection
) -> None:
    write(
        directory, "0003_index.sql", "-- no transaction\ncreate index concurrently on missing (n)"
    )
    with pytest.raises(MigrationError, match="0003_index failed"):
        await migrate(bare_urls.owner_dsn, directory)
    assert await schema_version(conn) == 2


async def test_waiting_for_another_migration_has_an_end(
    bare_urls: DatabaseUrls, directory: Path
) -> None:
    write(directory, "0003_slow.sql", "select pg_sleep(1)")
    slow = asyncio.create_task(migrate(bare_urls.owner_dsn, directory))
    await asyncio.sleep(0.3)
    with pytest.raises(MigrationError, match="another migration has been running"):
        await migrate(bare_urls.owner_dsn, directory, lock_wait_seconds=0.2)
    assert len(await slow) == 3


async def test_our_own_migrations_are_found_and_the_server_may_ask_for_the_version(
    database_urls: DatabaseUrls,
) -> None:
    conn = await connect(database_urls.server_dsn)
    try:
        assert await schema_version(conn) == latest_version() > 0
    finally:
        await conn.close()
