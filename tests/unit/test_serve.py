"""`knowledged serve` when it cannot: one line that says where to mend it, exit code 2."""

import asyncio
import os
import secrets
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from cluster import DatabaseUrls
from knowledged.commands.serve import server
from knowledged.embedded.home import EmbeddedError
from knowledged.settings import SettingsError, load

KNOWLEDGED = Path(sys.executable).with_name("knowledged")
PASSWORD = "a-password-to-hide"


async def refusal(**settings: object) -> str:
    """What the operator is told of a server that cannot start: a single line without secrets."""
    with pytest.raises((SettingsError, EmbeddedError)) as raised:
        async with server(load(**{"port": 0, "metrics_port": 0} | settings)):
            pass
    told = str(raised.value)
    assert PASSWORD not in told
    assert "\n" not in told
    return told


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


@pytest.fixture
def secret_key_file(tmp_path: Path) -> Path:
    file = tmp_path / "secret.key"
    file.write_bytes(secrets.token_bytes(32))
    return file


@pytest.fixture
def working(database_urls: DatabaseUrls, secret_key_file: Path) -> dict[str, object]:
    """Settings that a server starts with."""
    return {"database_url": database_urls.server_dsn, "secret_key_file": secret_key_file}


async def test_a_bad_value_is_told_by_its_setting() -> None:
    assert (await refusal(port="many")).startswith("KNOWLEDGED_PORT: ")


@pytest.mark.parametrize("text", [None, "subjects: [", "subjects: [{subject: a}]"])
async def test_an_access_file_that_is_missing_or_broken_is_told(
    tmp_path: Path, text: str | None
) -> None:
    file = tmp_path / "access.yaml"
    if text is not None:
        file.write_text(text)
        file.chmod(0o600)
    given = {"auth": "token", "access_file": file, "data_dir": tmp_path / "data"}
    assert "KNOWLEDGED_ACCESS_FILE: " in await refusal(**given)
    assert not (tmp_path / "data").exists()


async def test_a_data_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert "KNOWLEDGED_DATA_DIR" in await refusal(data_dir=file / "data")


async def test_a_database_without_a_secret_key_is_told() -> None:
    url = f"postgresql://me:{PASSWORD}@127.0.0.1:1/none"
    assert (await refusal(database_url=url)).startswith("KNOWLEDGED_SECRET_KEY_FILE is needed")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        (f"postgresql://me:{PASSWORD}@127.0.0.1:1/none", "Conn"),
        (f"postgresql://me:{PASSWORD}@/none?host=/nowhere", "No such file or directory"),
        (f"postgresql://me:{PASSWORD}@127.0.0.1:number/none", "is no URL of the form"),
        (f"mysql://me:{PASSWORD}@127.0.0.1/none", "is no URL of the form"),
    ],
)
async def test_a_database_that_cannot_be_reached_is_told(
    secret_key_file: Path, url: str, why: str
) -> None:
    told = await refusal(database_url=url, secret_key_file=secret_key_file)
    assert told.startswith(f"KNOWLEDGED_DATABASE_URL: {why}")


async def test_a_database_that_refuses_is_told(working: dict[str, object]) -> None:
    url = urlsplit(str(working["database_url"]))
    netloc = f"knowledge_server:{PASSWORD}@"
    told = await refusal(**working | {"database_url": url._replace(netloc=netloc).geturl()})
    assert told.startswith("KNOWLEDGED_DATABASE_URL: password authentication failed")
    told = await refusal(**working | {"database_url": url._replace(path="/nowhere").geturl()})
    assert told == 'KNOWLEDGED_DATABASE_URL: database "nowhere" does not exist'


async def test_a_port_in_use_is_told(working: dict[str, object], taken_port: int) -> None:
    told = await refusal(**working, port=taken_port)
    assert told.startswith(f"cannot listen at 127.0.0.1:{taken_port}: the port is in use")
    assert "KNOWLEDGED_METRICS_PORT: " in await refusal(**working, metrics_port=taken_port)


async def test_a_certificate_that_cannot_be_used_is_told(
    working: dict[str, object], tmp_path: Path, secret_key_file: Path
) -> None:
    missing = tmp_path / "missing.pem"
    told = await refusal(**working, tls_cert_file=missing, tls_key_file=missing)
    assert told.startswith("a KNOWLEDGED_TLS file: No such file")
    told = await refusal(**working, tls_cert_file=secret_key_file, tls_key_file=secret_key_file)
    assert "the TLS certificate and key do not fit" in told


async def test_on_the_command_line_a_refusal_is_a_line_and_exit_code_2(
    working: dict[str, object], taken_port: int
) -> None:
    own = {key: value for key, value in os.environ.items() if not key.startswith("KNOWLEDGED_")}
    settings = working | {"port": 0, "metrics_port": taken_port}
    process = await asyncio.create_subprocess_exec(
        *(KNOWLEDGED, "serve"),
        env=own | {f"KNOWLEDGED_{name.upper()}": str(value) for name, value in settings.items()},
        stderr=asyncio.subprocess.PIPE,
    )
    _, told = await process.communicate()
    assert process.returncode == 2
    (line,) = told.decode().splitlines()
    assert line.startswith("knowledged serve: KNOWLEDGED_METRICS_HOST and KNOWLEDGED_METRICS_PORT")
