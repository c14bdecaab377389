"""`knowledged token`: what it prints and what it writes is what the server lets in."""

import argparse
from pathlib import Path

import pytest

from knowledged.access import Access
from knowledged.access_file import parse
from knowledged.commands import token
from knowledged.settings import Settings


def run(*options: str) -> int:
    parser = argparse.ArgumentParser()
    token.add_arguments(parser)
    return token.run(parser.parse_args(options), Settings())


def test_the_printed_entry_lets_the_printed_token_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--subject", "s", "--role", "reader", "--collection", "c1") == 0
    made, _, yaml_text = capsys.readouterr().out.partition("\n\n")
    file = tmp_path / "access.yaml"
    file.write_text(yaml_text)
    principal = Access(file).authenticate(made)
    assert principal
    assert principal.collections == {"c1"}
    assert made not in yaml_text
    assert len(made) == 55


def test_tokens_are_added_to_the_file_which_only_its_owner_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "access.yaml"
    for subject in ("first", "second", "first"):
        assert run("--subject", subject, "--role", "writer", "--file", str(file)) == 0
    tokens = capsys.readouterr().out.split()
    access = Access(file)
    principals = [access.authenticate(made) for made in tokens]
    assert [p.subject for p in principals if p] == ["first", "second", "first"]
    assert file.stat().st_mode & 0o777 == 0o600
    assert [entry.subject for entry in parse(file.read_text()).subjects] == ["first", "second"]
    assert [path.name for path in tmp_path.iterdir()] == ["access.yaml"]


def test_a_known_subject_keeps_its_rights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "access.yaml"
    assert run("--subject", "s", "--role", "reader", "--file", str(file)) == 0
    before = file.read_text()
    assert run("--subject", "s", "--role", "admin", "--file", str(file)) == 1
    assert "other roles" in capsys.readouterr().err
    assert file.read_text() == before


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("subjects: 7", ()),
        ("", ("--collection", "a/b")),
        ("", ("--subject", "a\nb")),
    ],
)
def test_what_the_server_would_refuse_is_not_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, options: tuple[str, ...]
) -> None:
    file = tmp_path / "access.yaml"
    file.write_text(text)
    assert run("--subject", "s", "--role", "reader", "--file", str(file), *options) == 1
    assert "access file: " in capsys.readouterr().err
    assert file.read_text() == text


def test_a_folder_that_is_not_there_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "none" / "access.yaml"
    assert run("--subject", "s", "--role", "reader", "--file", str(file)) == 1
    assert "No such file" in capsys.readouterr().err


def test_an_unknown_role_is_refused() -> None:
    with pytest.raises(SystemExit):
        run("--subject", "s", "--role", "root")
