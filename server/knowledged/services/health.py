"""grpc.health.v1: `""` and a name per service say whether calls can be served; `liveness` only that
the event loop turns, so that a database failover restarts no pod."""

from collections.abc import Iterable

from grpc.aio import ServicerContext
from grpc_health.v1.health import aio
from grpc_health.v1.health_pb2 import (
    HealthCheckResponse,
    HealthListRequest,
    HealthListResponse,
)

LIVENESS = "liveness"

SERVING = HealthCheckResponse.SERVING
NOT_SERVING = HealthCheckResponse.NOT_SERVING


class Health(aio.HealthServicer):
    """Check, List and Watch. Not in the hall: probes need no token, and no load sheds them."""

    def __init__(self, services: Iterable[str]) -> None:
        super().__init__()
        self._names = ("", *services)
        self._server_status = dict.fromkeys(self._names, NOT_SERVING) | {LIVENESS: SERVING}

    async def List(
        self, request: HealthListRequest, context: ServicerContext[object, object]
    ) -> HealthListResponse:
        """The state of every name; the base class, as of grpcio 1.85, lacks it."""
        statuses = {
            name: HealthCheckResponse(status=status) for name, status in self._server_status.items()
        }
        return HealthListResponse(statuses=statuses)

    async def set_ready(self, ready: bool) -> None:
        """Says of every service whether it can be called."""
        for name in self._names:
            await self.set(name, SERVING if ready else NOT_SERVING)
