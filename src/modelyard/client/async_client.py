"""``AsyncClient``: the calls of ``client.py``, awaited with asyncio."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx2

from .calls import Call, model_call, models_call, predict_call, ready_call
from .errors import DeadlineExceeded, Unavailable
from .exchange import Outcome, Reply, Retry, Send, Wait, advance
from .forms import Answer, Priority
from .models import ModelDetails, ModelInfo
from .shell import DEFAULT_URL, ONCE, Pool, begin
from .wire import TimeLeft, asked, failure_of, options, reply_of

T = TypeVar("T")


class AsyncClient:
    """Asks a gateway with asyncio; see ``Client``. To be used in one event loop."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        retry: Retry = Retry(),
        connections: int = 100,
        tls: ssl.SSLContext | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        with_ = options(url, api_key=api_key, headers=headers, connections=connections, tls=tls)
        self._pool = Pool(lambda: httpx2.AsyncClient(**with_, transport=transport))
        self._timeout_s = timeout_s
        self._retry = retry

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._pool.http.aclose()

    async def predict(
        self,
        model: str,
        instances: Any,
        *,
        version: str | None = None,
        timeout_s: float | None = None,
        priority: Priority | None = None,
        fresh: bool = False,
    ) -> Any:
        """Return a model's predictions; see ``Client.predict``."""
        answer = await self.ask(
            model,
            instances,
            version=version,
            timeout_s=timeout_s,
            priority=priority,
            fresh=fresh,
        )
        return answer.predictions

    async def ask(
        self,
        model: str,
        instances: Any,
        *,
        version: str | None = None,
        timeout_s: float | None = None,
        priority: Priority | None = None,
        fresh: bool = False,
    ) -> Answer:
        """Do as ``predict``, and say also which version answered, and whether from a cache."""
        call = predict_call(
            model,
            instances,
            version=version,
            timeout_s=self._timeout_s if timeout_s is None else timeout_s,
            priority=priority,
            fresh=fresh,
        )
        return await self._run(call, self._retry)

    async def models(self) -> list[ModelInfo]:
        """Return all models with their versions and states."""
        return await self._run(models_call(), self._retry)

    async def model(self, name: str) -> ModelDetails:
        """Return one model, with its schemas; see ``Client.model``."""
        return await self._run(model_call(name), self._retry)

    async def ready(self) -> bool:
        """Return whether a gateway accepts requests; tries once."""
        try:
            return await self._run(ready_call(), ONCE)
        except (Unavailable, DeadlineExceeded):
            return False

    async def _run(self, call: Call[T], retry: Retry) -> T:
        steps = begin(call, retry)
        step = advance(steps, None)
        while not isinstance(step, Reply):
            if isinstance(step, Wait):
                await asyncio.sleep(step.seconds)
                step = advance(steps, None)
            else:
                step = advance(steps, await self._send(call, step))
        return call.read(step)

    async def _send(self, call: Call[T], step: Send) -> Outcome:
        time_left, body = TimeLeft(step.give_up), bytearray()
        request = asked(call.write(step.timeout_s), time_left)
        try:
            async with self._pool.http.stream(**request) as response:
                async for piece in response.aiter_bytes():
                    body += piece
                    time_left.check()
                return reply_of(response, body)
        except httpx2.RequestError as error:
            return failure_of(error)
