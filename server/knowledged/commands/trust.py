"""Whom a verification trusts: public keys, and checkpoints that were kept elsewhere."""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from knowledged.ledger.folder import read_notes
from knowledged.ledger.keys import KeyFileError, parse_known, read_known
from knowledged.ledger.note import VerifierKey
from knowledged.settings import Settings


@dataclass(frozen=True, slots=True)
class Trust:
    """Known keys, each for the log that it is named after, and kept notes."""

    keys: tuple[VerifierKey, ...]
    notes: tuple[str, ...] = ()

    def keys_of(self, origin: str) -> list[VerifierKey]:
        return [key for key in self.keys if key.name == origin]


def add_trust_arguments(parser: argparse.ArgumentParser) -> None:
    """Options `--key` and `--checkpoint`, both for several."""
    add_key_argument(parser)
    add_checkpoint_argument(parser)


def add_key_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--key",
        action="append",
        default=[],
        metavar="KEY",
        help="a public key, name+id+base64, or a file of them; default: KNOWN_KEYS_FILE's",
    )


def add_checkpoint_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--checkpoint",
        action="append",
        default=[],
        type=Path,
        metavar="PATH",
        help="a kept checkpoint, a file of them, or the folder of a witness",
    )


def read_keys(given: Sequence[str], settings: Settings) -> Trust:
    """The keys of `--key`, or those that the settings know; raises KeyFileError without any."""
    keys = tuple(_keys(given, settings))
    if not keys:
        raise KeyFileError("no key is given: --key NAME+ID+BASE64, as `knowledged audit key` tells")
    return Trust(keys)


def read_trust(arguments: argparse.Namespace, settings: Settings) -> Trust:
    """From both options; raises KeyFileError and FolderError."""
    notes = [note for path in arguments.checkpoint for note in read_notes(path)]
    return replace(read_keys(arguments.key, settings), notes=tuple(dict.fromkeys(notes)))


def _keys(given: Sequence[str], settings: Settings) -> Iterator[VerifierKey]:
    for each in given:
        yield from read_known(Path(each)) if Path(each).exists() else parse_known([each])
    if not given and settings.audit_known_keys_file:
        yield from read_known(settings.audit_known_keys_file)
