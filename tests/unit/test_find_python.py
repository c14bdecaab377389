"""Which Python `make setup` takes, of some that differ in what they tell of themselves alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

_SCRIPT = Path(__file__).parents[2] / "scripts/find-python"
_REAL = Path(sys.base_prefix, "bin", f"python3.{sys.version_info.minor}")
_QUICK, _SLOW, _OLD = "*CONFIG_ARGS*) exit 0", "*CONFIG_ARGS*) exit 1", "*version_info*) exit 1"
_BARE = "*ensurepip*) exit 1"


def _interpreter(folder: Path, told: str, name: str = "python3") -> str:
    folder.mkdir(exist_ok=True)
    path = folder / name
    # Where uv made our own venv, the interpreter below it may lack ensurepip.
    answers = f"{told} ;; *ensurepip*) exit 0 ;;"
    path.write_text(f'#!/bin/sh\ncase "$2" in {answers} esac\nexec {_REAL} "$@"\n')
    path.chmod(0o755)
    return str(path)


def _found(path: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": path, **variables}
    return subprocess.run(
        ["/bin/sh", str(_SCRIPT)], env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("passed_over", [_SLOW, _OLD, _BARE])
def test_the_first_quick_one_that_can_make_a_venv_is_taken(tmp_path: Path, passed_over: str):
    _interpreter(tmp_path / "a", passed_over)
    quick = _interpreter(tmp_path / "b", _QUICK)
    _interpreter(tmp_path / "c", _QUICK)
    found = _found(os.pathsep.join(str(tmp_path / each) for each in "abc"))
    assert (found.stdout, found.stderr) == (f"{quick}\n", "")


def test_without_a_quick_one_the_first_is_taken_and_said_to_be_slow(tmp_path: Path):
    slow = _interpreter(tmp_path, _SLOW)
    _interpreter(tmp_path, _SLOW, "python3.11")
    found = _found(str(tmp_path))
    assert found.stdout == f"{slow}\n"
    assert "without optimisations" in found.stderr


def test_the_one_named_by_python_is_taken_before_a_quick_one(tmp_path: Path):
    _interpreter(tmp_path / "a", _QUICK)
    named = _interpreter(tmp_path / "b", _SLOW)
    assert _found(str(tmp_path / "a"), PYTHON=named).stdout == f"{named}\n"


@pytest.mark.parametrize("variables", [{}, {"PYTHON": "no-such-python"}])
def test_that_there_is_none_is_said(tmp_path: Path, variables: dict[str, str]):
    _interpreter(tmp_path, _OLD)
    found = _found(str(tmp_path), **variables)
    assert (found.returncode, found.stdout) == (1, "")
    assert "no Python 3.11 or newer" in found.stderr
