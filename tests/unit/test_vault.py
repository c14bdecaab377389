"""Keys at rest, and which of several keys is used."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from knowledged.credentials.api_key import ApiKey
from knowledged.credentials.keys import INVALID, REVOKED, Held, Keys, Source
from knowledged.credentials.vault import Sealed, Unreadable, Vault
from knowledged.notices import Notices
from knowledged.secret import RootSecret

SECRET = "hf_canarycanarycanarycanarycanary0001"
OLD, NEW = RootSecret(b"old" * 11), RootSecret(b"new" * 11)
KEY, OTHER, THIRD = (ApiKey(f"hf_keykeykeykeykeykey{i}") for i in range(3))
EXPIRED = "PROVIDER_CREDENTIAL_EXPIRED"


def test_what_is_sealed_opens_and_shows_nothing() -> None:
    vault = Vault([OLD])
    sealed = vault.seal("huggingface", ApiKey(SECRET))
    assert vault.open("huggingface", sealed).reveal() == SECRET
    assert b"canary" not in sealed.ciphertext
    assert "ciphertext" not in repr(sealed)
    assert vault.seal("huggingface", ApiKey(SECRET)).nonce != sealed.nonce


@pytest.mark.parametrize("part", ["nonce", "ciphertext", "tag"])
def test_a_changed_one_does_not_open(part: str) -> None:
    vault = Vault([OLD])
    sealed = vault.seal("huggingface", ApiKey(SECRET))
    bent: dict[str, Sealed] = {
        "nonce": replace(sealed, nonce=bytes(12)),
        "ciphertext": replace(sealed, ciphertext=b"x" + sealed.ciphertext[1:]),
        "tag": replace(sealed, ciphertext=sealed.ciphertext[:-1] + b"x"),
    }
    with pytest.raises(Unreadable, match="changed") as refused:
        vault.open("huggingface", bent[part])
    assert refused.value.__cause__ is None


def test_a_sealed_key_fits_no_other_provider() -> None:
    sealed = Vault([OLD]).seal("huggingface", ApiKey(SECRET))
    with pytest.raises(Unreadable):
        Vault([OLD]).open("openai", sealed)


def test_either_root_secret_opens_and_the_first_seals() -> None:
    sealed = Vault([OLD]).seal("huggingface", ApiKey(SECRET))
    both = Vault([NEW, OLD])
    assert both.open("huggingface", sealed).reveal() == SECRET
    assert both.seal("huggingface", ApiKey(SECRET)).kek_id == Vault([NEW]).kek_id != sealed.kek_id
    with pytest.raises(Unreadable, match="another root secret"):
        Vault([NEW]).open("huggingface", sealed)


def held(key: ApiKey, source: Source = Source.STORED) -> Held:
    return Held(key, source, datetime.now(UTC))


def keys() -> Keys:
    return Keys("huggingface", Notices())


def used(ring: Keys) -> ApiKey | None:
    return ring.current.key if ring.current else None


def test_a_stored_key_goes_before_a_file_and_that_before_the_environment() -> None:
    ring = keys()
    assert used(ring) is None
    ring.offer(held(KEY, Source.ENVIRONMENT))
    ring.offer(held(OTHER, Source.FILE))
    assert used(ring) == OTHER
    ring.offer(held(THIRD, Source.STORED))
    assert used(ring) == THIRD
    ring.withdraw(Source.STORED)
    ring.withdraw(Source.FILE)
    assert used(ring) == KEY


def test_the_last_good_key_stays_while_new_ones_are_refused() -> None:
    ring = keys()
    ring.offer(held(KEY))
    ring.accepted(held(KEY))
    for bad in (OTHER, THIRD):
        ring.offer(held(bad))
        assert used(ring) == bad
        assert ring.refused(held(bad), INVALID) == INVALID
        assert used(ring) == KEY
        assert ring.rejected_reason == INVALID
    ring.offer(held(KEY))
    assert (used(ring), ring.rejected_reason) == (KEY, "")


def test_a_refused_key_without_a_good_one_before_it_is_still_the_one() -> None:
    ring = keys()
    ring.offer(held(KEY))
    assert ring.refused(held(KEY), EXPIRED) == EXPIRED
    assert used(ring) == KEY
    assert ring.outcome
    assert ring.outcome.reason == EXPIRED


def test_an_unknown_key_that_was_good_is_a_revoked_one() -> None:
    ring = keys()
    ring.offer(held(KEY))
    ring.accepted(held(KEY))
    assert ring.refused(held(KEY), INVALID) == REVOKED
    assert ring.refused(held(KEY), INVALID) == REVOKED


def test_a_deleted_key_is_not_fallen_back_to() -> None:
    ring = keys()
    ring.offer(held(OTHER, Source.ENVIRONMENT))
    ring.offer(held(KEY))
    ring.accepted(held(KEY))
    ring.withdraw(Source.STORED)
    assert ring.refused(held(OTHER, Source.ENVIRONMENT), INVALID) == INVALID
    assert used(ring) == OTHER


def test_what_is_not_the_keys_fault_pushes_no_key_out() -> None:
    ring = keys()
    ring.offer(held(KEY))
    ring.accepted(held(KEY))
    ring.offer(held(OTHER))
    ring.checked(held(OTHER), "PROVIDER_QUOTA_EXHAUSTED")
    assert used(ring) == OTHER
    assert ring.outcome
    assert ring.outcome.reason == "PROVIDER_QUOTA_EXHAUSTED"


def test_a_refused_key_that_is_known_later_is_used_after_all() -> None:
    ring = keys()
    ring.offer(held(KEY))
    ring.accepted(held(KEY))
    assert ring.refused_candidate is None
    new = held(OTHER)
    ring.offer(new)
    ring.refused(new, INVALID)
    assert ring.refused_candidate == new
    ring.accepted(new)
    assert (used(ring), ring.rejected_reason) == (OTHER, "")
    assert ring.refused_candidate is None


async def test_each_change_is_noted_once() -> None:
    notices = Notices()
    ring = Keys("huggingface", notices)
    ring.offer(held(KEY))
    ring.offer(held(KEY))
    ring.accepted(held(KEY))
    ring.offer(held(OTHER))
    for _ in range(3):
        ring.refused(held(OTHER), INVALID)
        ring.unusable(Source.FILE, INVALID)
    told = [await notices.next() for _ in range(5)]
    actions = [(notice.action, notice.reason) for notice in told]
    assert actions == [
        ("credentials.use", ""),
        ("credentials.use", ""),
        ("credentials.reject", INVALID),
        ("credentials.use", ""),
        ("credentials.reject", INVALID),
    ]
    assert "keykey" not in repr(told)
