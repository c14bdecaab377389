"""A server that asks for tokens, and how to make one."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from server_process import KNOWLEDGED, ServerProcess, environment


@dataclass(frozen=True, slots=True)
class Guarded:
    """A server that asks for tokens, and the token of an administrator."""

    server: ServerProcess
    access_file: Path
    metrics_url: str
    token: str


def new_token(access_file: Path, subject: str, *roles: str) -> str:
    """A token of a new subject, by the command an operator uses."""
    given = [argument for role in roles for argument in ("--role", role)]
    command = [KNOWLEDGED, "token", "--subject", subject, *given, "--file", str(access_file)]
    made = subprocess.run(command, env=environment(), capture_output=True, check=True, text=True)
    return made.stdout.strip()
