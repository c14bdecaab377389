"""The server, put together: THE list of interceptors, the services, and what runs beside them."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import grpc.aio
from google.protobuf.descriptor import FileDescriptor, ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server
from grpc_reflection.v1alpha import reflection

from knowledge.v1 import (
    audit_service_pb2,
    config_service_pb2,
    knowledge_service_pb2,
    options_pb2,
    vector_service_pb2,
)
from knowledged.beside import beside
from knowledged.call import AuditClass, Method
from knowledged.directory import Directory
from knowledged.interceptors import Handler, Interceptor, compose
from knowledged.interceptors.asked import Asked
from knowledged.interceptors.audit import Auditing
from knowledged.interceptors.audit_metrics import AuditMetrics
from knowledged.interceptors.auth import Auth
from knowledged.interceptors.backlog import StopWrites
from knowledged.interceptors.entry import behaviour
from knowledged.interceptors.errors import errors
from knowledged.interceptors.innermost import innermost
from knowledged.interceptors.quota import Quota
from knowledged.interceptors.recorder import Recorder
from knowledged.interceptors.refusal_counts import RefusalCounts
from knowledged.interceptors.shed import Shed
from knowledged.interceptors.stream import stream_behaviour
from knowledged.interceptors.telemetry import Telemetry
from knowledged.ledger.backlog import Backlog
from knowledged.page_token import PageTokens
from knowledged.parts import Parts
from knowledged.pgvector_release import indexes_are_sound
from knowledged.reflection import V1_NAME, add_reflection
from knowledged.services.aggregation import Aggregation
from knowledged.services.audit import Audit
from knowledged.services.audit_appending import AuditAppending
from knowledged.services.chunks import Chunks
from knowledged.services.collections import Collections
from knowledged.services.config import Config
from knowledged.services.credentials import Credentials
from knowledged.services.disclosures import Disclosures
from knowledged.services.document_batches import DocumentBatches
from knowledged.services.documents import Documents
from knowledged.services.drafts import Drafts
from knowledged.services.erasing import Erasures
from knowledged.services.exchange import Exchange
from knowledged.services.health import Health
from knowledged.services.index_reports import IndexReports
from knowledged.services.ingesting import Ingesting
from knowledged.services.legal_holds import LegalHolds
from knowledged.services.listing import Lists, PageSizes
from knowledged.services.log_streams import LogStreams
from knowledged.services.offered import EmbeddingModels
from knowledged.services.proofs import Proofs
from knowledged.services.purging import Purges
from knowledged.services.query_vectors import QueryVectors
from knowledged.services.revisions import Revisions
from knowledged.services.search import Search
from knowledged.services.supplies import Limits, Supplies
from knowledged.services.watching import Watching
from knowledged.settings import Settings, SettingsError
from knowledged.subject_name import subject_name
from knowledged.text import TextPipeline
from knowledged.workers.text_worker import TextWorkers

FILES: tuple[FileDescriptor, ...] = (
    knowledge_service_pb2.DESCRIPTOR,
    vector_service_pb2.DESCRIPTOR,
    audit_service_pb2.DESCRIPTOR,
    config_service_pb2.DESCRIPTOR,
)


@dataclass(frozen=True, slots=True)
class Running:
    """A serving server: where it listens, and its health."""

    port: int
    health: Health


def hall(parts: Parts, audit: Auditing, backlog: Backlog) -> list[Interceptor]:
    """Every RPC crosses these in this order, outermost first."""
    s = parts.settings
    return [
        errors,  # outermost: nothing that is raised inside may leak
        Telemetry(parts.metrics),  # sees every outcome, refusals too
        StopWrites(backlog),  # a refusal that left an event would only add to what waits
        audit,  # nothing may be answered OK without its event; refusals of all below are recorded
        Shed(s.max_concurrent_calls),  # before any work is done
        Auth(parts.access.authenticate if parts.access else None),  # above see its refusals
        Quota(s.max_concurrent_calls_per_subject, s.calls_per_second_per_subject),  # per subject
    ]


def services(supplies: Supplies) -> dict[str, tuple[object, ...]]:
    """Our services by their full names, each as the objects that have its RPCs as methods."""
    return {
        "knowledge.v1.KnowledgeService": (
            Collections(supplies),
            Documents(supplies),
            Revisions(supplies),
            Purges(supplies),
            DocumentBatches(supplies),
            Aggregation(supplies),
            Exchange(supplies),
            Watching(supplies),
        ),
        "knowledge.v1.VectorService": (
            Chunks(supplies),
            Ingesting(supplies),
            Search(supplies),
            IndexReports(supplies),
        ),
        "knowledge.v1.AuditService": (
            Audit(supplies),
            AuditAppending(supplies),
            LegalHolds(supplies),
            Proofs(supplies),
            LogStreams(supplies),
            Disclosures(supplies),
            Erasures(supplies),
        ),
        "knowledge.v1.ConfigService": (
            Config(supplies),
            Credentials(supplies),
            EmbeddingModels(supplies),
        ),
    }


def service_descriptors() -> list[ServiceDescriptor]:
    return [service for file in FILES for service in file.services_by_name.values()]


def methods() -> dict[str, Method]:
    """All our RPCs by path. Raises ValueError for one whose proto has no option."""
    return {
        method.path: method
        for service in service_descriptors()
        for name in service.methods_by_name
        for method in [_method(service, name)]
    }


def _method(service: ServiceDescriptor, name: str) -> Method:
    path = f"/{service.full_name}/{name}"
    declared = service.methods_by_name[name]
    access = declared.GetOptions().Extensions[options_pb2.access]
    if not access.permission or not access.audit_class:
        raise ValueError(f"{path}: its proto declares no (access) option; it cannot be served")
    return Method(
        path,
        access.permission,
        AuditClass(access.audit_class),
        declared.client_streaming,
        declared.server_streaming,
        GetMessageClass(declared.input_type),
    )


def build_server(
    parts: Parts, supplies: Supplies, health: Health, audit: Auditing
) -> grpc.aio.Server:
    """The gRPC server with every service behind the hall; nothing listens yet."""
    server = grpc.aio.server(options=_options(parts.settings))
    interceptors = hall(parts, audit, supplies.backlog)
    most_bytes = parts.settings.max_message_bytes
    for name, objects in services(supplies).items():
        handlers = _handlers(name, objects, interceptors, most_bytes)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))
    add_HealthServicer_to_server(health, server)
    names = [service.full_name for service in service_descriptors()]
    health_name = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
    add_reflection(server, [*names, health_name, reflection.SERVICE_NAME, V1_NAME])
    return server


def _options(settings: Settings) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        ("grpc.so_reuseport", 0),
        # Clients move on to other replicas in time, and see new certificates.
        ("grpc.max_connection_age_ms", 30 * 60_000),
        ("grpc.max_connection_age_grace_ms", 5 * 60_000),
    ]


def _handlers(
    service_name: str,
    objects: tuple[object, ...],
    interceptors: list[Interceptor],
    most_bytes: int,
) -> dict[str, Any]:
    mine = {path: m for path, m in methods().items() if m.service == service_name}
    return {
        method.name: _rpc_handler(
            method, compose(method, _innermost(objects, method, most_bytes), interceptors)
        )
        for method in mine.values()
    }


def _innermost(objects: tuple[object, ...], method: Method, most_bytes: int) -> Handler:
    """The service's method of the RPC's name, given the messages of its descriptor."""
    (serve,) = (getattr(each, method.name) for each in objects if hasattr(each, method.name))
    (service,) = (s for s in service_descriptors() if s.full_name == method.service)
    return innermost(serve, method, service.methods_by_name[method.name].input_type, most_bytes)


def _rpc_handler(method: Method, handler: Handler) -> Any:
    """Bytes both ways: gRPC parses nothing. Nobody needs a stream with a single answer yet."""
    if method.client_streams and not method.server_streams:
        raise ValueError(f"{method.path}: a stream of requests needs a stream of answers")
    if method.client_streams:
        return grpc.stream_stream_rpc_method_handler(stream_behaviour(method, handler))  # pyright: ignore
    if method.server_streams:
        return grpc.unary_stream_rpc_method_handler(stream_behaviour(method, handler))  # pyright: ignore
    return grpc.unary_unary_rpc_method_handler(behaviour(method, handler))  # pyright: ignore


@asynccontextmanager
async def serving(parts: Parts) -> AsyncGenerator[Running]:
    """Serves until the block ends, then stops gently: NOT_SERVING, a wait, the grace for calls."""
    s = parts.settings
    workers = TextWorkers(parts.database)
    supplies = _supplies(parts, workers, await indexes_are_sound(parts.database))
    health = Health(service.full_name for service in service_descriptors())
    audit = _audit(parts)
    server = build_server(parts, supplies, health, audit)
    port = _listen(server, s)
    await server.start()
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(work) for work in beside(parts, supplies, workers, health)]
        running.append(tasks.create_task(audit.recorder.run()))
        try:
            yield Running(port, health)
        finally:
            await health.enter_graceful_shutdown()
            await asyncio.sleep(s.shutdown_wait_seconds)
            health.end_watches()
            await server.stop(s.shutdown_grace_seconds)
            for task in running:
                task.cancel()


def _audit(parts: Parts) -> Auditing:
    recorder = Recorder(
        parts.database.dsn,
        AuditMetrics(parts.metrics.registry),
        RefusalCounts(),
        durable=parts.settings.audit_reads == "durable",
    )
    return Auditing(recorder, Asked(parts.secret.key("query-hash")))


def _supplies(parts: Parts, workers: TextWorkers, uses_indexes: bool) -> Supplies:
    s = parts.settings
    limits = Limits(
        max_message_bytes=s.max_message_bytes,
        max_content_characters=s.max_content_characters,
        max_batch_items=s.max_batch_items,
        max_page_size=s.max_page_size,
        max_search_limit=s.max_search_limit,
        max_embed_texts=s.max_embed_texts,
        max_inline_chunks=s.inline_chunks,
        max_export_seconds=s.max_export_seconds,
        max_concurrent_exports=s.max_concurrent_exports,
    )
    return Supplies(
        database=parts.database,
        directory=Directory(parts.database, uses_indexes=uses_indexes),
        drafts=Drafts(parts.catalogue, s.max_content_characters),
        lists=Lists(
            PageTokens(parts.secret.key("page-token")),
            PageSizes(s.default_page_size, s.max_page_size),
        ),
        text=TextPipeline(parts.catalogue, s.inline_chunks),
        providers=parts.providers,
        key_check=parts.key_check,
        query_vectors=QueryVectors(parts.secret.key("query-hash")),
        limits=limits,
        version=version("knowledged"),
        wake_text_workers=workers.wake,
        backlog=Backlog(s.audit_backlog_limit_events),
        keys=parts.keys,
        subject_name=partial(subject_name, parts.secret.key("query-hash")),
    )


def _listen(server: grpc.aio.Server, settings: Settings) -> int:
    address = f"{settings.host}:{settings.port}"
    certificate, key = settings.tls_cert_file, settings.tls_key_file
    try:
        if certificate is None or key is None:
            return server.add_insecure_port(address)
        credentials = _credentials(certificate, key, settings.tls_client_ca_file)
        return server.add_secure_port(address, credentials)
    except OSError as error:
        raise SettingsError(f"a KNOWLEDGED_TLS file: {error.strerror}") from error
    except RuntimeError as error:
        raise SettingsError(
            f"cannot listen at {address}: the port is in use, the address is not this machine's,"
            " or the TLS certificate and key do not fit (KNOWLEDGED_HOST, KNOWLEDGED_PORT)"
        ) from error


def _credentials(certificate: Path, key: Path, client_ca: Path | None) -> grpc.ServerCredentials:
    return grpc.ssl_server_credentials(
        [(key.read_bytes(), certificate.read_bytes())],
        root_certificates=client_ca.read_bytes() if client_ca else None,
        require_client_auth=client_ca is not None,
    )
