"""A channel to a server, for the commands that are clients."""

import grpc

from knowledged.settings import Settings

_ANY_HOST = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]", "::": "[::1]"}  # noqa: S104 - compared only


def open_channel(target: str | None, settings: Settings) -> grpc.Channel:
    """To `host:port`, or where a server with these settings listens on this machine.

    With a certificate in the settings the channel is TLS and trusts that certificate.
    """
    host = _ANY_HOST.get(settings.host, settings.host)
    address = target or f"{host}:{settings.port}"
    options = [("grpc.max_receive_message_length", settings.max_message_bytes)]
    if settings.tls_cert_file is None:
        return grpc.insecure_channel(address, options)
    credentials = grpc.ssl_channel_credentials(settings.tls_cert_file.read_bytes())
    return grpc.secure_channel(address, credentials, options)
