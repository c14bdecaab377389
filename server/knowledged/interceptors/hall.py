"""What the hall is made of: handlers from bytes to bytes, and interceptors that wrap them.

gRPC's own `ServerInterceptor` objects are looked up and awaited on every call; these functions
wrap a handler once, when the server is built, and cost a call nothing but their own work.
"""

from collections.abc import Awaitable, Callable, Sequence

from knowledged.call import Call, Method

Handler = Callable[[Call, bytes], Awaitable[bytes]]
Interceptor = Callable[[Method, Handler], Handler]


def compose(method: Method, handler: Handler, interceptors: Sequence[Interceptor]) -> Handler:
    """`handler` behind all `interceptors`, the first of them outermost."""
    for interceptor in reversed(interceptors):
        handler = interceptor(method, handler)
    return handler
