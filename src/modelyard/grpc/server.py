"""The gRPC server: the protocol's service, health and reflection on one port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from modelyard.access.gate import Gate, refusal_of
from modelyard.core.verdict import DRAINING, Verdict
from modelyard.gateway.predict import PredictEndpoint
from modelyard.gateway.tls import Tls
from modelyard.grpc.callers import credential_of, fields_of
from modelyard.grpc.inference import handlers_of
from modelyard.grpc.messages import POOL, SERVICE
from modelyard.grpc.pages import NEEDS, Pages

HEALTH_CHECK_S = 0.5  # how often those who watch the health are told of changes
_SECOND_MS = 1000


class Health(health_pb2_grpc.HealthServicer):
    """``grpc.health.v1``, of the whole server (an empty name) and of the protocol's service.

    Args:
        verdict: Says whether requests should come here.
    """

    def __init__(self, verdict: Callable[[], Verdict]) -> None:
        self._verdict = verdict

    async def Check(  # noqa: N802
        self, request: Any, context: grpc.aio.ServicerContext[Any, Any]
    ) -> health_pb2.HealthCheckResponse:
        """Tell the health now."""
        status = self._status_of(request.service)
        if status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN:
            detail = f"there is no service of this name, but {SERVICE}"
            await context.abort(grpc.StatusCode.NOT_FOUND, detail)
        return health_pb2.HealthCheckResponse(status=status)

    async def Watch(  # noqa: N802
        self, request: Any, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """Tell the health now, and whenever it changes."""
        told = None
        while True:
            status = self._status_of(request.service)
            if status != told:
                told = status
                yield health_pb2.HealthCheckResponse(status=status)
            if self._verdict().status == DRAINING:
                return
            await asyncio.sleep(HEALTH_CHECK_S)

    def _status_of(self, service: str) -> Any:
        if service not in ("", SERVICE):
            return health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        is_ready = self._verdict().is_ready
        answer = health_pb2.HealthCheckResponse
        return answer.SERVING if is_ready else answer.NOT_SERVING


class Doorkeeper(grpc.aio.ServerInterceptor):
    """Refuses strangers before a message of theirs is read. What a caller may do is looked at when
    the call is handled.
    """

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._refusal: Any = grpc.stream_unary_rpc_method_handler(_refuse)  # reads no message

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        """Return who handles a call."""
        service, _, name = details.method.removeprefix("/").partition("/")
        is_open = service != SERVICE or NEEDS.get(name) == "nothing"
        sent = details.invocation_metadata or ()
        if is_open or self._gate.is_valid(credential_of(dict(sent))) or self._is_named(sent):
            return await continuation(details)
        return self._refusal

    def _is_named(self, sent: Any) -> bool:
        """Return whether a proxy may have named the caller. Who has said so is not known yet."""
        proxies = self._gate.proxies
        return proxies is not None and proxies.names_owner(fields_of(sent))


async def _refuse(_: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
    sent = credential_of(dict(context.invocation_metadata() or ()))
    await context.abort(grpc.StatusCode.UNAUTHENTICATED, refusal_of(sent).detail)


class GrpcServer:
    """Serves on a port until ``stop``.

    Args:
        endpoint: Answers predictions.
        pages: Answers everything else.
        verdict: Says whether requests should come here.
        gate: Says who may call; None if everybody may.
        max_message_bytes: Larger requests are refused.
        drain_s: How long ``stop`` waits for calls in progress.
    """

    def __init__(
        self,
        *,
        endpoint: PredictEndpoint,
        pages: Pages,
        verdict: Callable[[], Verdict],
        gate: Gate | None,
        max_message_bytes: int,
        drain_s: float,
    ) -> None:
        self._drain_s = drain_s
        self._stopping: asyncio.Task[None] | None = None
        doorkeepers = [] if gate is None else [Doorkeeper(gate)]
        self._server = server = grpc.aio.server(
            interceptors=doorkeepers, options=_options(max_message_bytes)
        )
        handlers = pages.handlers() | handlers_of(endpoint)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        health_pb2_grpc.add_HealthServicer_to_server(Health(verdict), server)
        names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server, pool=POOL)

    async def start(self, host: str, port: int, *, tls: Tls | None) -> int:
        """Listen, and return the port, which is a free one for 0.

        ``tls``: the files of the certificate; None for plain gRPC.

        Raises:
            RuntimeError: The address has been taken since it was looked at (``serve.listen``).
        """
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if tls is None:
            bound = self._server.add_insecure_port(address)
        else:
            bound = self._server.add_secure_port(address, _credentials(tls))
        await self._server.start()
        return bound

    def stop(self, *, is_forced: bool = False) -> None:
        """Take no further calls, and finish those in progress; not if it is forced."""
        if self._stopping is None or is_forced:
            grace_s = 0 if is_forced else self._drain_s
            self._stopping = asyncio.create_task(self._server.stop(grace_s))

    async def stopped(self) -> None:
        """Wait for the end of a stop."""
        await self._server.wait_for_termination()


def _credentials(tls: Tls) -> grpc.ServerCredentials:
    """Return credentials that are read again when the files have changed."""
    known = tls.read()

    def configure(read: tuple[bytes, bytes, bytes | None]) -> grpc.ServerCertificateConfiguration:
        certificate, key, authority = read
        return grpc.ssl_server_certificate_configuration([(key, certificate)], authority)

    def renewed() -> Any:  # None: as before
        nonlocal known
        try:
            found = tls.read()
            if found == known:
                return None
            tls.make_context()
        except OSError:
            return None
        known = found
        return configure(found)

    needs_client = tls.client_ca is not None
    return grpc.dynamic_ssl_server_credentials(
        configure(known), renewed, require_client_authentication=needs_client
    )


def _options(max_message_bytes: int) -> list[tuple[str, Any]]:
    return [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_concurrent_streams", 256),  # of one connection
        ("grpc.so_reuseport", 0),  # two servers on one port would share its calls
        # So that clients, which keep one connection for all calls, find new gateways.
        ("grpc.max_connection_age_ms", 300 * _SECOND_MS),
        ("grpc.keepalive_time_ms", 60 * _SECOND_MS),
        ("grpc.keepalive_timeout_ms", 20 * _SECOND_MS),
        # Clients may ping as often as they like to, also between calls.
        ("grpc.http2.min_ping_interval_without_data_ms", _SECOND_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_ping_strikes", 0),
    ]
