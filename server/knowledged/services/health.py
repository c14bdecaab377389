"""grpc.health.v1: `""` and a name per service say whether calls can be served; `liveness` only that
the event loop turns, so that a database failover restarts no pod."""

from collections.abc import Iterable
from typing import Any, cast

from grpc.aio import ServicerContext
from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio
from grpc_health.v1.health_pb2 import HealthCheckResponse

LIVENESS = "liveness"

SERVING = HealthCheckResponse.SERVING
NOT_SERVING = HealthCheckResponse.NOT_SERVING

# The package's published types lack the messages of List, as its servicer lacks the method.
_messages = cast(Any, health_pb2)


class Health(aio.HealthServicer):
    """Check, List and Watch. Not in the hall: probes need no token, and no load sheds them."""

    def __init__(self, services: Iterable[str]) -> None:
        super().__init__()
        self._names = ("", *services)
        self._server_status = dict.fromkeys(self._names, NOT_SERVING) | {LIVENESS: SERVING}

    async def List(self, request: Any, context: ServicerContext[Any, Any]) -> Any:
        """The state of every name; the base class, as of grpcio 1.85, lacks it."""
        statuses = {
            name: HealthCheckResponse(status=status) for name, status in self._server_status.items()
        }
        return _messages.HealthListResponse(statuses=statuses)

    async def set_ready(self, ready: bool) -> None:
        """Says of every service whether it can be called."""
        for name in self._names:
            await self.set(name, SERVING if ready else NOT_SERVING)
