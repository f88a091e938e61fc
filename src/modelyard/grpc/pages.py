"""The calls of the protocol but inference: server, models, repository, statistics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import grpc

from modelyard.access.gate import Gate
from modelyard.access.keyring import Principal
from modelyard.core.errors import Forbidden, RequestError
from modelyard.core.names import is_loopback
from modelyard.core.verdict import Verdict
from modelyard.dispatch.catalog import Catalog
from modelyard.gateway.answer import sentence_of
from modelyard.gateway.problems import MethodNotAllowed, problem_of
from modelyard.gateway.question import new_request_id
from modelyard.gateway.routes import ByHand
from modelyard.gateway.rules import Need, Rule, check_need, let_in, visible_to
from modelyard.gateway.types import RenderMetrics
from modelyard.gateway.v2_facts import (
    check_load,
    config_document,
    index_document,
    metadata_document,
    server_document,
    stats_documents,
    stats_entries,
)
from modelyard.grpc.callers import host_of, vouched
from modelyard.grpc.messages import fill, message_class
from modelyard.grpc.status import STATUS

Context = grpc.aio.ServicerContext[Any, Any]


class Caller(NamedTuple):
    """Who calls; ``principal`` is None where nobody is known, and so may all."""

    principal: Principal | None
    host: str


Answer = Callable[[Any, Caller], Awaitable[dict[str, Any]]]

NEEDS: dict[str, Need] = {
    **{"ServerLive": "nothing", "ServerReady": "nothing", "ServerMetadata": "key"},
    **{"ModelReady": "key", "ModelMetadata": "see", "ModelConfig": "see"},
    **{"ModelStatistics": "models", "RepositoryIndex": "models"},
    **{"RepositoryModelLoad": "release", "RepositoryModelUnload": "release"},
}
"""What each call needs, in the words of ``gateway/rules.py``."""


class Pages:
    """Answers with documents; the arguments are those of ``gateway.routes.make_router``.

    ``gate``: says who calls; None if everybody may.
    """

    def __init__(
        self,
        *,
        catalog: Catalog,
        version: str,
        render_metrics: RenderMetrics,
        verdict: Callable[[], Verdict],
        by_hand: ByHand | None,
        gate: Gate | None,
    ) -> None:
        self._catalog = catalog
        self._version = version
        self._render_metrics = render_metrics
        self._verdict = verdict
        self._by_hand = by_hand
        self._gate = gate

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
        return {name: self._handler(name, answer) for name, answer in answers.items()}

    async def _live(self, _: Any, __: Caller) -> dict[str, Any]:
        return {"live": True}

    async def _ready(self, _: Any, __: Caller) -> dict[str, Any]:
        return {"ready": self._verdict().is_ready}

    async def _server(self, _: Any, __: Caller) -> dict[str, Any]:
        return server_document(self._version)

    async def _model_ready(self, asked: Any, caller: Caller) -> dict[str, Any]:
        try:
            self._check_sees(caller, asked.name)
            entry = self._catalog.stable(asked.name, asked.version or None)
        except RequestError:  # Triton says of unknown models as well that they are not ready
            return {"ready": False}
        return {"ready": entry.is_open}

    async def _metadata(self, asked: Any, _: Caller) -> dict[str, Any]:
        return metadata_document(self._catalog, asked.name, asked.version or None)

    async def _config(self, asked: Any, _: Caller) -> dict[str, Any]:
        entry = self._catalog.stable(asked.name, asked.version or None)
        return {"config": config_document(entry)}

    async def _statistics(self, asked: Any, caller: Caller) -> dict[str, Any]:
        if asked.name:
            self._check_sees(caller, asked.name)
            entries = stats_entries(self._catalog, asked.name, asked.version or None)
        else:
            entries = visible_to(caller.principal, self._catalog.entries())
        return {"model_stats": await stats_documents(entries, self._render_metrics)}

    async def _index(self, asked: Any, caller: Caller) -> dict[str, Any]:
        known, by_hand = self._catalog, self._by_hand
        return {"models": index_document(known, by_hand, caller.principal, is_ready=asked.ready)}

    async def _load(self, asked: Any, caller: Caller) -> dict[str, Any]:
        by_hand = self._changing(caller)
        check_load(asked.parameters)
        await by_hand.load(asked.model_name)
        return {}

    async def _unload(self, asked: Any, caller: Caller) -> dict[str, Any]:
        await self._changing(caller).unload(asked.model_name)
        return {}

    @staticmethod
    def _check_sees(caller: Caller, name: str) -> None:
        if caller.principal is not None:
            check_need("see", name, caller.principal)

    def _changing(self, caller: Caller) -> ByHand:
        """Return what loads and unloads models, or refuse it."""
        if caller.principal is None and not is_loopback(caller.host):
            detail = "models are loaded and unloaded from this machine alone"
            raise Forbidden(detail)
        if self._by_hand is None:
            detail = "this server does not load or unload models by hand"
            raise MethodNotAllowed(detail)
        return self._by_hand

    def _handler(self, name: str, answer: Answer) -> Any:
        """Return the handler of a call, from what answers it with a document."""
        response, need = message_class(f"{name}Response"), NEEDS[name]

        async def handle(asked: Any, context: Context) -> Any:
            try:
                caller = self._let_in(need, asked, context)
                return fill(response, await answer(asked, caller))
            except RequestError as error:
                problem = problem_of(error, request_id=new_request_id())
                sentence = sentence_of(problem, input_name="instances")
                await context.abort(STATUS[error.code], sentence)

        return grpc.unary_unary_rpc_method_handler(
            handle,
            request_deserializer=message_class(f"{name}Request").FromString,
            response_serializer=response.SerializeToString,
        )

    def _let_in(self, need: Need, asked: Any, context: Context) -> Caller:
        """Return who calls.

        Raises:
            RequestError: It may not.
        """
        host = host_of(context.peer())
        if self._gate is None or need == "nothing":
            return Caller(None, host)
        sent = context.invocation_metadata() or ()
        credential = vouched(sent, context.peer(), self._gate.proxies)
        named = asked.name if need == "see" else asked.model_name if need == "release" else ""
        act = f"gRPC {type(asked).__name__}"
        principal = let_in(self._gate, Rule(need, named), credential, host=host, act=act)
        return Caller(principal, host)
