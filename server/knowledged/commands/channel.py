"""A channel to a server, for the commands that are clients."""

import grpc
import grpc.aio

from knowledged.settings import Settings

_ANY_HOST = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]", "::": "[::1]"}  # noqa: S104 - compared only


def open_channel(target: str | None, settings: Settings) -> grpc.Channel:
    """To `host:port`, or where a server with these settings listens on this machine.

    With a certificate in the settings the channel is TLS and trusts that certificate.
    """
    address, options = _address(target, settings), _options(settings)
    credentials = _credentials(settings)
    if credentials is None:
        return grpc.insecure_channel(address, options)
    return grpc.secure_channel(address, credentials, options)


def open_async_channel(target: str | None, settings: Settings) -> grpc.aio.Channel:
    """The same for many calls at once; must be opened where an event loop runs."""
    address, options = _address(target, settings), _options(settings)
    credentials = _credentials(settings)
    if credentials is None:
        return grpc.aio.insecure_channel(address, options)
    return grpc.aio.secure_channel(address, credentials, options)


def _address(target: str | None, settings: Settings) -> str:
    host = _ANY_HOST.get(settings.host, settings.host)
    return target or f"{host}:{settings.port}"


def _options(settings: Settings) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        # A server that was started again is found again soon.
        ("grpc.max_reconnect_backoff_ms", 2_000),
    ]


def _credentials(settings: Settings) -> grpc.ChannelCredentials | None:
    if settings.tls_cert_file is None:
        return None
    return grpc.ssl_channel_credentials(settings.tls_cert_file.read_bytes())
