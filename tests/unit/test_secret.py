"""The root secret's file and the keys derived from it."""

import hashlib
import hmac
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from knowledged.secret import RootSecret, SecretFileError


def test_keys_are_stable_and_differ_by_purpose() -> None:
    secret = RootSecret(b"0123456789abcdef0123456789abcdef")
    names = ("page-token", "query-hash", "key-encryption")
    keys = {name: secret.key(name) for name in names}
    assert keys == {name: RootSecret(b"0123456789abcdef" * 2).key(name) for name in names}
    assert len(set(keys.values())) == 3
    assert all(len(key) == 32 for key in keys.values())


def test_keys_are_those_of_rfc_5869() -> None:
    secret = b"s" * 40
    extracted = hmac.digest(bytes(32), secret, hashlib.sha256)
    expected = hmac.digest(extracted, b"knowledged v1 page-token\x01", hashlib.sha256)
    assert RootSecret(secret).key("page-token") == expected


def test_the_secret_is_never_shown() -> None:
    assert "0123" not in repr(RootSecret(b"0123456789abcdef" * 2))


def test_a_short_secret_is_refused_with_its_size() -> None:
    with pytest.raises(SecretFileError, match="31 bytes"):
        RootSecret(b"x" * 31)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SecretFileError, match="FileNotFoundError"):
        RootSecret.read(tmp_path / "none")


def test_one_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    made = RootSecret.read_or_make(path)
    assert RootSecret.read_or_make(path) == made == RootSecret.read(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(path.read_bytes()) == 32


def test_racing_processes_agree_on_one_secret(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: RootSecret.read_or_make(path), range(16)))
    assert all(secret == made[0] for secret in made)
    assert [entry.name for entry in tmp_path.iterdir()] == ["secret.key"]
