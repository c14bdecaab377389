"""The command line: `knowledged COMMAND`."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType

from knowledged.settings import SettingsError, load

# Each is a module of `commands` with HELP, add_arguments and run; imported when it is asked for.
COMMANDS = (
    "serve",
    "migrate",
    "health",
    "doctor",
    "search",
    "recall",
    "import",
    "export",
    "watch",
    "token",
    "credential",
    "models",
    "audit",
    "verify",
    "witness",
    "demo",
)
# Where a command's word is no name for a module.
_FILES = {"import": "import_files", "models": "embedding_models"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; its exit code. What an operator can mend is told in one line, exit 2."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = _parser([given[0]] if given and given[0] in COMMANDS else list(COMMANDS))
    parsed = parser.parse_args(given)
    try:
        return int(_module(parsed.command).run(parsed, load()))
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if not isinstance(error, _operator_errors()):
            raise
        print(f"knowledged {parsed.command}: {error}", file=sys.stderr)
        return 2


def _parser(commands: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "knowledged", description="Keeps knowledge and finds it again, over gRPC."
    )
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in commands:
        module = _module(name)
        module.add_arguments(subparsers.add_parser(name, help=module.HELP))
    return parser


def _module(command: str) -> ModuleType:
    name = _FILES.get(command, command)
    return import_module(f"knowledged.commands.{name}")


def _operator_errors() -> tuple[type[Exception], ...]:
    from knowledged.access_file import AccessFileError
    from knowledged.embedded.home import EmbeddedError
    from knowledged.errors import Unavailable
    from knowledged.migration import MigrationError
    from knowledged.secret import SecretFileError

    return (
        SettingsError,
        AccessFileError,
        EmbeddedError,
        MigrationError,
        SecretFileError,
        Unavailable,
        ConnectionError,
    )


if __name__ == "__main__":
    sys.exit(main())
