"""`knowledged doctor`: what it finds in order, and what it does not."""

from pathlib import Path

import pytest
from command_line import Run

from cluster import DatabaseUrls
from knowledged.connection import connect


@pytest.fixture(autouse=True)
def settings(
    only_here: None, monkeypatch: pytest.MonkeyPatch, database_urls: DatabaseUrls, tmp_path: Path
) -> None:
    monkeypatch.setenv("KNOWLEDGED_DATABASE_URL", database_urls.server_dsn)
    monkeypatch.setenv("KNOWLEDGED_SECRET_KEY_FILE", str(tmp_path / "secret.key"))


async def execute(urls: DatabaseUrls, statement: str) -> None:
    admin = await connect(urls.superuser_dsn)
    await admin.execute(statement)
    await admin.close()


async def test_a_database_as_it_should_be_has_no_fault(knowledged: Run) -> None:
    ended = await knowledged("doctor")
    assert ended.code == 0, ended.output
    assert "FAULT" not in ended.output
    lines = [line.split()[0] for line in ended.output.splitlines()]
    assert lines[-7:] == ["pgvector", "schema", "PostgreSQL", "role", "plans", "audit", "rights"]


@pytest.mark.parametrize(
    ("statement", "subject", "what"),
    [
        ("grant delete on knowledge.audit_event to knowledge_server", "audit log", "DELETE on"),
        (
            "grant truncate on knowledge.audit_payload_read_other to knowledge_server",
            "audit log",
            "TRUNCATE on audit_payload_read_other",
        ),
        ("revoke insert on knowledge.document from knowledge_server", "rights", "INSERT on docu"),
        ("grant create on schema knowledge to knowledge_server", "role", "may create"),
        ("delete from knowledge.schema_migration where version > 3", "schema", "version 3;"),
    ],
)
async def test_a_fault_is_told_and_ends_with_1(
    knowledged: Run, database_urls: DatabaseUrls, statement: str, subject: str, what: str
) -> None:
    await execute(database_urls, statement)
    ended = await knowledged("doctor")
    assert ended.code == 1
    (line,) = [line for line in ended.output.splitlines() if "FAULT" in line]
    assert line.startswith(subject)
    assert what in line


async def test_a_setting_that_is_none_is_a_fault(
    knowledged: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KNOWLEDGED_AUDIT_READ_RETENTION", "1")
    ended = await knowledged("doctor")
    assert ended.code == 1
    assert "did you mean KNOWLEDGED_AUDIT_READ_RETENTION_DAYS?" in ended.output


async def test_a_server_without_its_root_secret_would_not_start(
    knowledged: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KNOWLEDGED_SECRET_KEY_FILE")
    ended = await knowledged("doctor")
    assert ended.code == 1
    assert "KNOWLEDGED_SECRET_KEY_FILE is not set" in ended.output


async def test_the_owner_is_no_serving_role(
    knowledged: Run, monkeypatch: pytest.MonkeyPatch, database_urls: DatabaseUrls
) -> None:
    monkeypatch.setenv("KNOWLEDGED_DATABASE_URL", database_urls.owner_dsn)
    ended = await knowledged("doctor")
    assert ended.code == 1
    assert "knowledge_owner is not knowledge_server" in ended.output
    assert "postgresql://" not in ended.output


async def test_a_database_away_is_told_in_a_line(
    knowledged: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KNOWLEDGED_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")
    ended = await knowledged("doctor")
    assert ended.code == 2
    assert len(ended.errors.splitlines()) == 1
