"""grpc.health.v1: `""` and a name per service say whether calls can be served; `liveness` only that
the event loop turns, so that a database failover restarts no pod."""

import asyncio
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
        self._watches: set[asyncio.Task[None]] = set()
        self._watches_ended = False

    async def List(self, request: Any, context: ServicerContext[Any, Any]) -> Any:
        """The state of every name; the base class, as of grpcio 1.85, lacks it."""
        statuses = {
            name: HealthCheckResponse(status=status) for name, status in self._server_status.items()
        }
        return _messages.HealthListResponse(statuses=statuses)

    async def Watch(self, request: Any, context: ServicerContext[Any, Any]) -> None:
        """Each new state of a name, until the caller leaves or `end_watches`."""
        watch = asyncio.create_task(super().Watch(request, context))
        self._watches.add(watch)
        try:
            await watch
        except asyncio.CancelledError:
            if not self._watches_ended:
                raise
        finally:
            self._watches.discard(watch)

    def end_watches(self) -> None:
        """A stopping server would wait its whole grace for calls that never end by themselves."""
        self._watches_ended = True
        for watch in self._watches:
            watch.cancel()

    async def set_ready(self, ready: bool) -> None:
        """Says of every service whether it can be called."""
        for name in self._names:
            await self.set(name, SERVING if ready else NOT_SERVING)
