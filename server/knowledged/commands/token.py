"""`knowledged token`: makes a token for a subject, shown once, and its entry of the access file."""

import argparse
import os
import secrets
import string
import sys
from contextlib import suppress
from pathlib import Path
from typing import get_args

from knowledged.access import token_hash
from knowledged.access_file import (
    AccessFile,
    AccessFileError,
    Role,
    SubjectEntry,
    TokenEntry,
    checked,
    parse,
    render,
)
from knowledged.settings import Settings

HELP = "make a token and its entry of the access file"

_ID_CHARACTERS = string.ascii_lowercase + string.digits


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--subject", required=True, help="whom it is for: stands in the audit log")
    parser.add_argument("--role", required=True, action="append", choices=get_args(Role))
    parser.add_argument(
        "--collection", action="append", metavar="ID", help="may be repeated; default: all of them"
    )
    parser.add_argument(
        "--file",
        type=Path,
        help="add the entry to this access file; it is written anew, without its comments",
    )


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Prints the token; then its entry, or adds that to the file. 1 when the file is at fault."""
    token, token_entry = _new_token()
    try:
        entry = _entry(arguments, token_entry)
        if arguments.file is None:
            print(f"{token}\n\n{render(AccessFile(subjects=[entry]))}", end="")
            return 0
        _add(arguments.file, entry)
    except (AccessFileError, OSError) as error:
        reason = error if isinstance(error, AccessFileError) else error.strerror
        print(f"access file: {reason}", file=sys.stderr)
        return 1
    print(token)
    return 0


def _new_token() -> tuple[str, TokenEntry]:
    """`kd_<id>_<secret>`: 8 characters to look it up by, and 256 random bits as base64url."""
    token_id = "".join(secrets.choice(_ID_CHARACTERS) for _ in range(8))
    token = f"kd_{token_id}_{secrets.token_urlsafe(32)}"
    salt = secrets.token_bytes(16)
    digest = token_hash(salt, token)
    return token, TokenEntry(id=token_id, salt=salt.hex(), hash=digest.hex())


def _entry(arguments: argparse.Namespace, token: TokenEntry) -> SubjectEntry:
    entry = {
        "subject": arguments.subject,
        "roles": arguments.role,
        "collections": arguments.collection or "*",
        "tokens": [token.model_dump()],
    }
    return checked({"subjects": [entry]}).subjects[0]


def _add(path: Path, entry: SubjectEntry) -> None:
    path = path.resolve()
    text = path.read_text("utf-8") if path.exists() else ""
    file = parse(text) if text.strip() else AccessFile(subjects=[])
    _replace(path, render(_with(file, entry)))


def _with(file: AccessFile, entry: SubjectEntry) -> AccessFile:
    """A known subject gets one more token; that must not change what the subject may."""
    known = next((s for s in file.subjects if s.subject == entry.subject), None)
    if known is None:
        return AccessFile(subjects=[*file.subjects, entry])
    if (known.roles, known.collections) != (entry.roles, entry.collections):
        raise AccessFileError("the subject has other roles or collections; change its entry first")
    grown = known.model_copy(update={"tokens": [*known.tokens, *entry.tokens]})
    return AccessFile(subjects=[grown if s is known else s for s in file.subjects])


def _replace(path: Path, text: str) -> None:
    """Whole or not at all, readable by its owner alone; an existing file keeps its owner."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            _keep_owner(path, file.fileno())
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _keep_owner(path: Path, descriptor: int) -> None:
    with suppress(FileNotFoundError):
        status = path.stat()
        os.fchown(descriptor, status.st_uid, status.st_gid)
