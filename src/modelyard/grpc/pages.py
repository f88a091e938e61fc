"""The calls of the protocol but inference: server, models, repository, statistics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

import grpc

from modelyard.core.errors import RequestError
from modelyard.core.verdict import Verdict
from modelyard.dispatch.catalog import Catalog
from modelyard.gateway.answer import sentence_of
from modelyard.gateway.problems import problem_of
from modelyard.gateway.question import new_request_id
from modelyard.gateway.routes import ByHand, is_loopback
from modelyard.gateway.v2_facts import (
    config_document,
    index_document,
    metadata_document,
    server_document,
    stats_documents,
    stats_entries,
)
from modelyard.grpc.messages import fill, message_class
from modelyard.grpc.status import STATUS

Context = grpc.aio.ServicerContext[Any, Any]
Answer = Callable[[Any, Context], Awaitable[dict[str, Any]]]


class Pages:
    """Answers with documents; the arguments are those of ``gateway.routes.make_router``."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        version: str,
        render_metrics: Callable[[], tuple[bytes, str]],
        verdict: Callable[[], Verdict],
        by_hand: ByHand | None,
    ) -> None:
        self._catalog = catalog
        self._version = version
        self._render_metrics = render_metrics
        self._verdict = verdict
        self._by_hand = by_hand

    def handlers(self) -> dict[str, Any]:
        """Return the handlers by the names of the calls."""
        answers: dict[str, Answer] = {
            "ServerLive": self._live,
            "ServerReady": self._ready,
            "ServerMetadata": self._server,
            "ModelReady": self._model_ready,
            "ModelMetadata": self._metadata,
            "ModelConfig": self._config,
            "ModelStatistics": self._statistics,
            "RepositoryIndex": self._index,
            "RepositoryModelLoad": self._load,
            "RepositoryModelUnload": self._unload,
        }
        return {name: _handler(name, answer) for name, answer in answers.items()}

    async def _live(self, _: Any, __: Context) -> dict[str, Any]:
        return {"live": True}

    async def _ready(self, _: Any, __: Context) -> dict[str, Any]:
        return {"ready": self._verdict().is_ready}

    async def _server(self, _: Any, __: Context) -> dict[str, Any]:
        return server_document(self._version)

    async def _model_ready(self, asked: Any, _: Context) -> dict[str, Any]:
        try:
            entry = self._catalog.resolve(asked.name, asked.version or None)
        except RequestError:  # Triton says of unknown models as well that they are not ready
            return {"ready": False}
        return {"ready": entry.is_open}

    async def _metadata(self, asked: Any, _: Context) -> dict[str, Any]:
        return metadata_document(self._catalog, asked.name, asked.version or None)

    async def _config(self, asked: Any, _: Context) -> dict[str, Any]:
        entry = self._catalog.resolve(asked.name, asked.version or None)
        return {"config": config_document(entry)}

    async def _statistics(self, asked: Any, _: Context) -> dict[str, Any]:
        entries = stats_entries(self._catalog, asked.name or None, asked.version or None)
        return {"model_stats": await stats_documents(entries, self._render_metrics)}

    async def _index(self, asked: Any, _: Context) -> dict[str, Any]:
        return {"models": index_document(self._catalog, is_ready=asked.ready)}

    async def _load(self, asked: Any, context: Context) -> dict[str, Any]:
        await (await self._changing(context)).load(asked.model_name)
        return {}

    async def _unload(self, asked: Any, context: Context) -> dict[str, Any]:
        await (await self._changing(context)).unload(asked.model_name)
        return {}

    async def _changing(self, context: Context) -> ByHand:
        """Return what loads and unloads models, or refuse it."""
        if not is_loopback(_host_of(context.peer())):
            detail = "models are loaded and unloaded from this machine alone"
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, detail)
        if self._by_hand is None:
            detail = "this server does not load or unload models by hand"
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, detail)
        assert self._by_hand is not None
        return self._by_hand


def _handler(name: str, answer: Answer) -> Any:
    """Return the handler of a call, from what answers it with a document."""
    response = message_class(f"{name}Response")

    async def handle(asked: Any, context: Context) -> Any:
        try:
            return fill(response, await answer(asked, context))
        except RequestError as error:
            problem = problem_of(error, request_id=new_request_id())
            await context.abort(STATUS[error.code], sentence_of(problem, input_name="instances"))

    return grpc.unary_unary_rpc_method_handler(
        handle,
        request_deserializer=message_class(f"{name}Request").FromString,
        response_serializer=response.SerializeToString,
    )


def _host_of(peer: str) -> str:
    """Return the address in what gRPC calls a peer: ``ipv4:127.0.0.1:5000``."""
    kind, _, address = peer.partition(":")
    if kind == "unix":
        return "localhost"
    return unquote(address).rpartition(":")[0].strip("[]")
