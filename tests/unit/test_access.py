"""The access file: who gets in, what is refused in it, and how it is reloaded."""

import asyncio
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from structlog.testing import capture_logs

from knowledged.access import PERMISSIONS, ROLES, Access, token_hash
from knowledged.access_file import AccessFileError, parse

HASH = "ab" * 32
SALT = "cd" * 16


def entry(**changes: Any) -> dict[str, Any]:
    token = {"id": "abcd1234", "salt": SALT, "hash": HASH}
    whole = {"subject": "s", "roles": ["reader"], "collections": "*", "tokens": [token]}
    return whole | changes


def token_of(token_id: str) -> tuple[str, dict[str, str]]:
    token, salt = f"kd_{token_id}_{secrets.token_urlsafe(32)}", secrets.token_bytes(16)
    hashed = token_hash(salt, token).hex()
    return token, {"id": token_id, "salt": salt.hex(), "hash": hashed}


def write(path: Path, *entries: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump({"subjects": list(entries)}))
    path.chmod(0o600)


async def until(reached: Callable[[], bool]) -> None:
    for _ in range(500):
        if reached():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("not reached in 5 seconds")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "access.yaml"
    write(file)
    return file


def test_a_token_names_its_subject_with_its_rights(path: Path) -> None:
    token, known = token_of("k3v9x2ab")
    write(path, entry(subject="importer", roles=["writer"], collections=["c1"], tokens=[known]))
    principal = Access(path).authenticate(token)
    assert principal
    assert principal.subject == "importer"
    assert "documents.write" in principal.permissions
    assert "collections.write" not in principal.permissions
    assert principal.may_see("c1")
    assert not principal.may_see("c2")


def test_all_collections_and_several_roles_add_up(path: Path) -> None:
    token, known = token_of("k3v9x2ab")
    write(path, entry(roles=["writer", "auditor"], tokens=[known]))
    principal = Access(path).authenticate(token)
    assert principal
    assert {"documents.write", "audit.read"} <= principal.permissions
    assert principal.may_see("any")


def test_both_tokens_of_a_subject_hold_while_one_replaces_the_other(path: Path) -> None:
    (old, old_entry), (new, new_entry) = token_of("oldoldol"), token_of("newnewne")
    write(path, entry(tokens=[old_entry, new_entry]))
    access = Access(path)
    assert access.authenticate(old) == access.authenticate(new) is not None


@pytest.mark.parametrize(
    "forge",
    [
        lambda token: token[:-1] + ("A" if token[-1] != "A" else "B"),
        lambda token: token.replace("k3v9x2ab", "k3v9x2ac"),
        lambda token: token + "A",
        lambda token: token + "\n",
        lambda token: token.upper(),
        lambda token: token[:-1] + "é",
        lambda token: "",
    ],
)
def test_a_forged_token_is_nobodys(path: Path, forge: Any) -> None:
    token, known = token_of("k3v9x2ab")
    write(path, entry(tokens=[known]))
    assert Access(path).authenticate(forge(token)) is None


def test_every_role_may_ask_for_the_servers_info_and_admin_may_everything() -> None:
    assert all("server.info" in permissions for permissions in ROLES.values())
    assert ROLES["admin"] == PERMISSIONS
    assert all(permissions <= PERMISSIONS for permissions in ROLES.values())


@pytest.mark.parametrize(
    ("subjects", "problem"),
    [
        ([entry(rolse=[])], "subjects[0].rolse: Extra inputs are not permitted"),
        ([entry(roles=["reader", "root"])], "subjects[0].roles[1]: Input should be 'reader'"),
        ([entry(roles=[])], "subjects[0].roles: List should have at least 1 item"),
        ([entry(), entry()], "subject given twice: s"),
        ([entry(), entry(subject="t")], "token id given twice: abcd1234"),
        ([entry(collections="leaflets")], "subjects[0].collections"),
        ([entry(collections=["a/b"])], "subjects[0].collections"),
        ([entry(subject="")], "subjects[0].subject"),
        ([entry(subject="a\nb")], "subjects[0].subject"),
        ([entry(tokens=[{"id": "abcd1234", "salt": SALT}])], "subjects[0].tokens[0].hash: Field"),
        ([entry(tokens=[{"id": 12345678, "salt": SALT, "hash": HASH}])], "tokens[0].id"),
        ([entry(tokens=[{"id": "abcd1234", "salt": "x", "hash": HASH}])], "tokens[0].salt"),
        (None, "subjects: Input should be a valid list"),
    ],
)
def test_a_bad_file_is_refused_with_the_entry_and_the_rule(subjects: Any, problem: str) -> None:
    with pytest.raises(AccessFileError) as refusal:
        parse(yaml.safe_dump({"subjects": subjects}))
    assert problem in str(refusal.value)
    assert HASH not in str(refusal.value)
    assert SALT not in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (f"subjects:\n  - hash: {HASH}\n   salt: x", "no valid YAML at line 3"),
        ("subjects: []\nsubjects: []", "key given twice: subjects"),
        (f"subjects: !!python/object:os.system {HASH}", "no valid YAML at line 1"),
        ("", "dictionary"),
        ("- a", "dictionary"),
        ("[" * 5000, "no YAML"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused(text: str, problem: str) -> None:
    with pytest.raises(AccessFileError) as refusal:
        parse(text)
    assert problem in str(refusal.value)
    assert HASH not in str(refusal.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AccessFileError, match="FileNotFoundError"):
        Access(tmp_path / "none.yaml")


async def test_a_changed_file_is_followed(path: Path) -> None:
    token, known = token_of("k3v9x2ab")
    access = Access(path)
    task = asyncio.create_task(access.follow(poll_seconds=0.01))
    write(path, entry(tokens=[known]))
    await until(lambda: access.authenticate(token) is not None)
    write(path)
    await until(lambda: access.authenticate(token) is None)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()


@pytest.mark.parametrize("broken", ["subjects: 7", "\x00", None])
def test_a_broken_file_keeps_the_last_good_one(path: Path, broken: str | None) -> None:
    token, known = token_of("k3v9x2ab")
    write(path, entry(tokens=[known]))
    access = Access(path)
    path.unlink() if broken is None else path.write_text(broken)
    with capture_logs() as lines:
        access.reload()
        access.reload()
    assert [line["event"] for line in lines] == ["access_file_rejected"]
    assert access.authenticate(token)
    write(path, entry(subject="renamed", tokens=[known]))
    access.reload()
    principal = access.authenticate(token)
    assert principal
    assert principal.subject == "renamed"


def test_a_turned_link_is_a_change(path: Path, tmp_path: Path) -> None:
    token, known = token_of("k3v9x2ab")
    other, link = tmp_path / "other.yaml", tmp_path / "link.yaml"
    write(other, entry(tokens=[known]))
    link.symlink_to(path)
    access = Access(link)
    link.unlink()
    link.symlink_to(other)
    access.reload()
    assert access.authenticate(token)


def test_a_file_that_everybody_can_read_is_warned_about(path: Path) -> None:
    os.chmod(path, 0o644)
    with capture_logs() as lines:
        Access(path)
    assert [line["event"] for line in lines] == ["access_file_readable_by_others"]
