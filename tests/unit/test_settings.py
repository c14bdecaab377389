"""Settings from the environment: defaults, secrets, rules over several, and typing errors."""

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from knowledged.settings import Settings, SettingsError, load, unknown_variables

PASSWORD = "hunter2"
URL = f"postgresql://app:{PASSWORD}@db/knowledge"


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("KNOWLEDGED_", "HUGGING_FACE")):
            monkeypatch.delenv(name)


def test_without_any_variable_it_serves_loopback_on_an_embedded_database() -> None:
    settings = load()
    assert (settings.host, settings.port, settings.auth) == ("127.0.0.1", 50051, "none")
    assert settings.embedded
    assert settings.data_dir == Path.cwd() / ".data"
    assert settings.max_message_bytes == 4 * 1024 * 1024


def test_variables_are_read_and_empty_ones_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KNOWLEDGED_PORT", "7000")
    monkeypatch.setenv("KNOWLEDGED_METRICS_PORT", "")
    monkeypatch.setenv("KNOWLEDGED_DATABASE_URL", URL)
    monkeypatch.setenv("HUGGING_FACE_API_KEY", "hf_abc")
    settings = load()
    assert (settings.port, settings.metrics_port) == (7000, 9464)
    assert settings.database_url
    assert settings.database_url.get_secret_value() == URL
    assert settings.hugging_face_api_key
    assert settings.hugging_face_api_key.get_secret_value() == "hf_abc"
    assert not settings.embedded


def test_given_values_go_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KNOWLEDGED_PORT", "7000")
    assert load(port=7001).port == 7001


@pytest.mark.parametrize(
    ("variable", "field"),
    [
        ("KNOWLEDGED_DATABASE_URL", "database_url"),
        ("KNOWLEDGED_MAINTENANCE_DATABASE_URL", "maintenance_database_url"),
    ],
)
def test_each_secret_may_come_as_a_file_but_not_twice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, field: str
) -> None:
    file = tmp_path / "secret"
    file.write_text(f"{PASSWORD}\n")
    monkeypatch.setenv(f"{variable}_FILE", str(file))
    assert getattr(load(), field).get_secret_value() == PASSWORD
    monkeypatch.setenv(variable, "another")
    with pytest.raises(SettingsError, match=f"{variable} and {variable}_FILE are both set") as both:
        load()
    assert "another" not in str(both.value)


@pytest.mark.parametrize(("text", "problem"), [(None, "cannot be read"), (" \n", "is empty")])
def test_a_secrets_file_without_secret_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str | None, problem: str
) -> None:
    file = tmp_path / "secret"
    if text is not None:
        file.write_text(text)
    monkeypatch.setenv("KNOWLEDGED_DATABASE_URL_FILE", str(file))
    with pytest.raises(SettingsError, match=f"KNOWLEDGED_DATABASE_URL_FILE: .*{problem}"):
        load()


def test_no_secret_is_ever_shown() -> None:
    settings = load(database_url=URL, hugging_face_api_key=PASSWORD)
    assert PASSWORD not in repr(settings)
    assert PASSWORD not in str(settings.model_dump())
    with pytest.raises(ValidationError) as error:
        Settings(database_url=URL, host="0.0.0.0")
    assert PASSWORD not in str(error.value)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "db.example", ""])
def test_without_authentication_only_loopback_is_served(host: str) -> None:
    with pytest.raises(SettingsError, match="KNOWLEDGED_AUTH=none serves anybody"):
        load(host=host)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "::1", "[::1]"])
def test_every_name_of_loopback_is_served(host: str) -> None:
    assert load(host=host).host == host


def test_tokens_need_an_access_file_and_then_any_host_is_served() -> None:
    with pytest.raises(SettingsError, match="needs KNOWLEDGED_ACCESS_FILE"):
        load(auth="token")
    assert load(auth="token", access_file=Path("a.yaml"), host="0.0.0.0").host == "0.0.0.0"


def test_every_variable_at_fault_is_named_without_its_value(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("PORT", "AUTH", "COMMAND_TIMEOUT_SECONDS"):
        monkeypatch.setenv(f"KNOWLEDGED_{name}", "nonsense")
    with pytest.raises(SettingsError) as refusal:
        load()
    lines = str(refusal.value).splitlines()
    assert sorted(line.split(":")[0] for line in lines) == [
        "KNOWLEDGED_AUTH",
        "KNOWLEDGED_COMMAND_TIMEOUT_SECONDS",
        "KNOWLEDGED_PORT",
    ]
    assert "nonsense" not in str(refusal.value)


def test_rules_over_several_settings_are_all_told() -> None:
    with pytest.raises(SettingsError) as refusal:
        load(tls_cert_file=Path("c"), pool_min_size=9, pool_max_size=3, default_page_size=5000)
    for told in ("TLS_KEY_FILE go together", "POOL_MIN_SIZE", "DEFAULT_PAGE_SIZE"):
        assert told in str(refusal.value)


def test_settings_are_fixed() -> None:
    with pytest.raises(ValidationError):
        load().port = 1  # pyright: ignore


def test_a_misspelt_variable_is_warned_about_with_the_likely_one() -> None:
    environment = {"KNOWLEDGED_PROT": "1", "KNOWLEDGED_PORT": "1", "PATH": "x"}
    assert unknown_variables(environment) == [
        "KNOWLEDGED_PROT is no setting; did you mean KNOWLEDGED_PORT?"
    ]


def test_the_file_of_the_providers_key_is_followed_and_not_read_at_the_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HUGGING_FACE_API_KEY_FILE", str(tmp_path / "not there yet"))
    assert load().hugging_face_api_key is None
    monkeypatch.setenv("HUGGING_FACE_API_KEY", "hf_abc")
    with pytest.raises(SettingsError, match="HUGGING_FACE_API_KEY_FILE are both set"):
        load()


def test_models_are_words_between_commas_or_spaces(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load().local_models == ("bundled",)
    monkeypatch.setenv("KNOWLEDGED_LOCAL_MODELS", "bundled, /models/bge  org/name@abc")
    monkeypatch.setenv("KNOWLEDGED_HUGGING_FACE_MODELS", "a/b:384,c/d:1024:512")
    settings = load()
    assert settings.local_models == ("bundled", "/models/bge", "org/name@abc")
    assert settings.hugging_face_models == ("a/b:384", "c/d:1024:512")


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("HUGGING_FACE_URL", "ftp://tei", "must be http"),
        ("HUGGING_FACE_URL", "http://user:pass@tei", "without a user"),
        ("HUGGING_FACE_URL", "http://tei", "serves one model"),
        ("HUGGING_FACE_HUB_URL", "http://mirror.example", "must be https"),
        ("HUGGING_FACE_ROUTER_URL", "http://router.example", "must be https"),
        ("LOCAL_MODELS", ",", "must name a model"),
    ],
)
def test_addresses_and_models_are_checked(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(f"KNOWLEDGED_{variable}", value)
    with pytest.raises(SettingsError, match=said) as refused:
        load()
    assert "pass" not in str(refused.value)
