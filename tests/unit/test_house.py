"""The rules of the house that no linter knows; see CONTRIBUTING.md."""

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SERVER = ROOT / "server" / "knowledged"
SOURCES = sorted(SERVER.rglob("*.py"))

NAMES_WITHOUT_A_NOUN = {"utils", "util", "common", "helpers", "base", "models", "misc", "shared"}
PATTERN_FOLDERS = {"repository", "repositories", "usecases", "interfaces", "domain", "core"}
MAX_LINES_OF_A_FILE = 400
LONG_FUNCTION = 25

Function = ast.FunctionDef | ast.AsyncFunctionDef


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def functions() -> Iterator[Function]:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, Function):
                yield node


def lines_of_code(function: Function) -> int:
    """Lines from `def` to the end, the docstring apart."""
    docstring = function.body[0] if ast.get_docstring(function) else None
    total = (function.end_lineno or function.lineno) - function.lineno + 1
    if docstring is None:
        return total
    return total - ((docstring.end_lineno or docstring.lineno) - docstring.lineno + 1)


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_server_has_sources() -> None:
    assert SERVER / "errors.py" in SOURCES


def test_no_file_of_the_server_is_longer_than_400_lines() -> None:
    lengths = {relative(path): len(path.read_text().splitlines()) for path in SOURCES}
    assert {k: n for k, n in lengths.items() if n > MAX_LINES_OF_A_FILE} == {}


def test_nine_functions_in_ten_have_at_most_25_lines() -> None:
    lengths = [lines_of_code(function) for function in functions()]
    long = [length for length in lengths if length > LONG_FUNCTION]
    assert len(long) <= len(lengths) / 10


def test_every_module_is_named_by_a_noun_of_its_own() -> None:
    forbidden = NAMES_WITHOUT_A_NOUN | PATTERN_FOLDERS
    parts = {(relative(p), part) for p in SOURCES for part in p.relative_to(SERVER).parts}
    assert [path for path, part in parts if part.removesuffix(".py") in forbidden] == []


def test_nothing_is_left_to_do_later() -> None:
    unfinished = re.compile(r"\b(TODO|FIXME|XXX|NotImplementedError)\b")
    assert [relative(p) for p in SOURCES if unfinished.search(p.read_text())] == []


def test_annotations_are_evaluated_as_written() -> None:
    late = "from __future__ import annotations"
    assert [relative(path) for path in SOURCES if late in path.read_text()] == []


def test_every_dependency_has_its_reason() -> None:
    groups = [project()["dependencies"], *project()["optional-dependencies"].values()]
    required = [requirement for group in groups for requirement in group]
    reasons = (ROOT / "docs/decisions/0002-dependencies.md").read_text()
    names = [re.split(r"[<>=;\[ ]", requirement)[0] for requirement in required]
    assert [name for name in names if f"`{name}`" not in reasons] == []


def test_make_help_lists_every_target() -> None:
    targets = re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    shown = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    assert "setup" in targets
    assert [line.split()[0] for line in shown.splitlines()] == targets


def test_the_local_gate_and_make_agree_on_the_test_command() -> None:
    assert "\nmake test\n" in (ROOT / ".ci/run").read_text()
