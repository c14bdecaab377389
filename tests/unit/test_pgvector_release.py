"""Which releases of pgvector may be trusted with an index."""

import pytest

from knowledged.pgvector_release import is_recommended, is_sound


@pytest.mark.parametrize("release", ["0.8.3", "0.8.6", "0.8.10", "0.9", "1.0.0"])
def test_an_index_is_sound_from_0_8_3_on(release: str) -> None:
    assert is_sound(release)


@pytest.mark.parametrize("release", ["", "0.8", "0.8.2", "0.7.9", "0.8.x", "unknown"])
def test_an_index_of_an_older_or_unknown_release_is_not_sound(release: str) -> None:
    assert not is_sound(release)


def test_releases_below_0_8_6_are_not_recommended() -> None:
    assert [is_recommended(release) for release in ("0.8.5", "0.8.6", "0.10.0")] == [
        False,
        True,
        True,
    ]
