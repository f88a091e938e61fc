"""Both clients behind one set of methods, so that a test holds for either."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, Self

from modelyard.client import Answer, AsyncClient, Client, ModelDetails, ModelInfo
from modelyard.client.forms import Priority


class Either(Protocol):
    """A client that is called and waited for."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None: ...
    def predict(
        self,
        model: str,
        instances: Any,
        *,
        version: str | None = None,
        timeout_s: float | None = None,
        priority: Priority | None = None,
        fresh: bool = False,
    ) -> Any: ...
    def ask(
        self,
        model: str,
        instances: Any,
        *,
        version: str | None = None,
        timeout_s: float | None = None,
        priority: Priority | None = None,
        fresh: bool = False,
    ) -> Answer: ...
    def models(self) -> list[ModelInfo]: ...
    def model(self, name: str) -> ModelDetails: ...
    def ready(self) -> bool: ...


Connect = Callable[..., Either]
"""Takes what both clients take."""


class Awaited:
    """An AsyncClient in an event loop of its own, which runs while it is called."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._runner = asyncio.Runner()
        self._client = AsyncClient(*arguments, **options)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._runner.run(self._client.close())
        self._runner.close()

    def predict(self, model: str, instances: Any, **options: Any) -> Any:
        return self._runner.run(self._client.predict(model, instances, **options))

    def ask(self, model: str, instances: Any, **options: Any) -> Answer:
        return self._runner.run(self._client.ask(model, instances, **options))

    def models(self) -> list[ModelInfo]:
        return self._runner.run(self._client.models())

    def model(self, name: str) -> ModelDetails:
        return self._runner.run(self._client.model(name))

    def ready(self) -> bool:
        return self._runner.run(self._client.ready())


BOTH: dict[str, Connect] = {"Client": Client, "AsyncClient": Awaited}
