"""`knowledged health`: asks a server how it is; for a container's HEALTHCHECK."""

import argparse
import sys
from typing import Any, cast

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from knowledged.commands.channel import open_channel
from knowledged.settings import Settings

HELP = "ask a server how it is; exit 0 if it serves, 1 if not, 2 if it cannot be reached"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--target", help="host:port; default: from the settings")
    parser.add_argument("--service", default="", help='default: "", all of them; or `liveness`')
    parser.add_argument("--timeout-seconds", type=float, default=3.0)


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    with open_channel(arguments.target, settings) as channel:
        request = HealthCheckRequest(service=arguments.service)
        try:
            health = cast(Any, HealthStub(channel))  # its published types are empty
            answer = health.Check(request, timeout=arguments.timeout_seconds)
        except grpc.RpcError as error:
            print(f"not reached: {error.code().name}", file=sys.stderr)  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
            return 2
    name = HealthCheckResponse.ServingStatus.Name(answer.status)
    print(name)
    return 0 if name == "SERVING" else 1
