"""`knowledged credential`: sets, shows, tries and removes a provider's key."""

import argparse
import getpass
import sys
from collections.abc import Awaitable, Callable
from uuid import uuid4

import uvloop
from google.protobuf.timestamp_pb2 import Timestamp

from knowledge.v1 import config_service_pb2 as pb
from knowledged.commands import client
from knowledged.commands.client import Client, RpcError, open_client, status_line
from knowledged.settings import Settings

HELP = "set, show, try or remove the key of Hugging Face"

NAME = "providers/huggingface"
_SOURCES = {
    pb.CREDENTIAL_SOURCE_UNSPECIFIED: "none",
    pb.CREDENTIAL_SOURCE_STORED: "stored by `credential set`",
    pb.CREDENTIAL_SOURCE_FILE: "the file HUGGING_FACE_API_KEY_FILE",
    pb.CREDENTIAL_SOURCE_ENVIRONMENT: "HUGGING_FACE_API_KEY",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to do. The key is never an argument, which `ps` would show."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, text in (
        ("set", "store a key, read from a prompt, or from stdin if that is no terminal"),
        ("status", "show the key in use, masked"),
        ("validate", "ask the provider whether it is good; exit 1 if not"),
        ("delete", "remove the stored key"),
    ):
        action = actions.add_parser(name, help=text)
        client.add_arguments(action)
        if name == "set":
            action.add_argument(
                "--skip-validation", action="store_true", help="do not ask the provider first"
            )


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """0 when it was done and the key is good; 1 when it was refused."""
    try:
        return uvloop.run(_act(arguments, settings))
    except RpcError as error:
        print(status_line(error), file=sys.stderr)
        return 1


async def _act(arguments: argparse.Namespace, settings: Settings) -> int:
    key = _read_key() if arguments.action == "set" else ""
    async with open_client(arguments.target, settings, arguments.token_file) as opened:
        if arguments.action == "set":
            return await _set(opened, key, skip=arguments.skip_validation)
        return await _ACTIONS[arguments.action](opened)


def _read_key() -> str:
    """Without an echo, and without a trace in the shell's history."""
    if sys.stdin.isatty():
        return getpass.getpass("Key of Hugging Face: ")
    return sys.stdin.readline().strip()


async def _set(opened: Client, key: str, *, skip: bool) -> int:
    request = pb.SetProviderCredentialRequest(
        name=NAME, api_key=key, skip_validation=skip, request_id=str(uuid4())
    )
    answer = await opened.call(opened.config.SetProviderCredential, request)
    _show(answer.credential)
    return 0


async def _status(opened: Client) -> int:
    request = pb.GetProviderCredentialRequest(name=NAME)
    _show((await opened.call(opened.config.GetProviderCredential, request)).credential)
    return 0


async def _validate(opened: Client) -> int:
    request = pb.ValidateProviderCredentialRequest(name=NAME, request_id=str(uuid4()))
    answer = await opened.call(opened.config.ValidateProviderCredential, request)
    _show(answer.credential)
    if answer.HasField("expire_time"):
        print(f"expires   {_time(answer.expire_time)}")
    if answer.message:
        print(answer.message, file=sys.stderr)
    return 1 if answer.message else 0


async def _delete(opened: Client) -> int:
    request = pb.DeleteProviderCredentialRequest(name=NAME, request_id=str(uuid4()))
    await opened.call(opened.config.DeleteProviderCredential, request)
    return await _status(opened)


_ACTIONS: dict[str, Callable[[Client], Awaitable[int]]] = {
    "status": _status,
    "validate": _validate,
    "delete": _delete,
}


def _show(credential: pb.ProviderCredential) -> None:
    print(f"source    {_SOURCES[credential.source]}")
    if not credential.source:
        return
    print(f"key       {credential.masked}")
    print(f"sha256    {credential.fingerprint}…")
    print(f"since     {_time(credential.set_time)}")
    if credential.HasField("check_time"):
        outcome = credential.check_reason or "good"
        print(f"checked   {_time(credential.check_time)}: {outcome}")
    if credential.rejected_reason:
        print(f"rejected  another key: {credential.rejected_reason}")


def _time(instant: Timestamp) -> str:
    return instant.ToDatetime().isoformat(sep=" ", timespec="seconds") + " UTC"
