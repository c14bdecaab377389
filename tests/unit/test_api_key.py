"""A key shows itself to nobody who does not ask for it by name."""

import copy
import json
import pickle
from dataclasses import dataclass

import pytest
import structlog

from knowledged.credentials.api_key import ApiKey, MalformedKey
from knowledged.settings import load

SECRET = "hf_canarycanarycanarycanarycanary0001"


@dataclass(frozen=True, slots=True)
class Holder:
    """Something with a key in it, as logs and errors may print it."""

    key: ApiKey


def test_every_printed_form_is_masked() -> None:
    key = ApiKey(f"  {SECRET}\n")
    forms = [repr(key), str(key), f"{key}", f"{key!r:>40}", repr([key])]
    forms += [repr(Holder(key)), key.masked, key.fingerprint, repr({key: key})]
    assert [form for form in forms if "canary" in form] == []
    assert str(key) == "hf_…0001"
    assert key.reveal() == SECRET


def test_no_copy_of_it_can_be_made_by_accident() -> None:
    key = ApiKey(SECRET)
    for spread in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="is not to be copied") as refused:
            spread(key)
        assert "canary" not in str(refused.value)
    with pytest.raises(TypeError) as unserialisable:
        json.dumps(key)
    assert "canary" not in str(unserialisable.value)
    assert not hasattr(key, "__dict__")


def test_a_log_line_with_a_key_has_none() -> None:
    with structlog.testing.capture_logs() as lines:
        structlog.get_logger().info("event", key=ApiKey(SECRET))
    assert "canary" not in repr(lines)


def test_the_settings_do_not_show_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUGGING_FACE_API_KEY", SECRET)
    settings = load()
    for form in (repr(settings), str(settings.model_dump()), settings.model_dump_json()):
        assert "canary" not in form


def test_the_same_key_is_known_by_its_fingerprint() -> None:
    assert ApiKey(SECRET) == ApiKey(SECRET)
    assert ApiKey(SECRET) != ApiKey(SECRET + "x")
    assert ApiKey(SECRET) != SECRET
    assert len({ApiKey(SECRET), ApiKey(SECRET)}) == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a" * 15,
        "a" * 513,
        "canary canary canary",
        "canarycanary\ncanary",
        "canaryé" * 4,
        "é" * 20,
    ],
)
def test_a_malformed_key_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(MalformedKey) as refused:
        ApiKey(text)
    assert "canary" not in str(refused.value)


def test_a_key_of_another_kind_is_masked_without_its_head() -> None:
    assert ApiKey("api_key_of_an_endpoint").masked == "…oint"
