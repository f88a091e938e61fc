"""``Model``: the class that users subclass. Only ``predict`` must be implemented, or a stream."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol

from modelyard.metering import Metrics


class Calls(Protocol):
    """Asks other models for one: over HTTP where it is served, or in a test as that says."""

    def call(
        self, model: str, instances: Any, *, version: str | None, timeout_s: float | None
    ) -> Any:
        """See ``Model.call``."""
        ...

    async def acall(
        self, model: str, instances: Any, *, version: str | None, timeout_s: float | None
    ) -> Any:
        """See ``Model.acall``."""
        ...


class Reports(Protocol):
    """Takes what a model says while it predicts: in a runner, its pool."""

    def progress(self, fraction: float, message: str) -> None:
        """See ``Model.progress``."""
        ...

    def is_cancelled(self) -> bool:
        """See ``Model.is_cancelled``."""
        ...


class Model(ABC):
    """A model that Modelyard can serve.

    Each object lives in a process of its own and is called by one thread, so it may keep state and
    need not be thread-safe. The calls are ``load``, ``warm_up``, ``predict`` once per batch, and
    ``unload``, in this order.

    A model that waits for others, as for a service or an engine, writes ``async def predict``, and
    ``concurrency`` under ``[batching]`` in ``model.toml``: as many calls of it are under way. Then
    the other methods may be async too, and all run on one event loop. A call is cancelled when
    nobody waits for it any longer.

    A model that answers in pieces has a ``stream``, beside ``predict`` or in its place, and
    ``concurrency`` as well::

        def stream(self, instance: T) -> Iterator[U]:

    It gets one instance and yields pieces; with ``async def`` it is an ``AsyncIterator[U]``. Of a
    plain one, the streams under way take turns, piece by piece. When nobody reads any longer, it is
    closed. See ``StreamingModel`` for one that makes pieces for many streams at once.

    Attributes:
        assets: The model's ``assets/`` folder. Files that ``model.toml`` lists under
            ``[artefacts]`` have been checked against their digest before ``load`` is called.
        example: Instances that ``predict`` can answer, as a caller would send them. They warm the
            model up, and the documentation shows them.
    """

    assets: Path
    example: ClassVar[Any] = None
    _other_models: Calls | None = None  # set before load, where model.toml has [calls]
    _reports: Reports | None = None  # set in a runner, after the warm-up

    def load(self) -> None:  # noqa: B027  (optional)
        """Read the artefacts. Raise to say that the model cannot be served."""

    def warm_up(self) -> None:  # noqa: B027  (optional)
        """Do work that the first request should not wait for. Called after the example has been
        predicted.
        """

    def predict(self, instances: Any) -> Any:
        """Answer a batch.

        Annotate it: validation, schemas and documentation are derived from the annotations.

        Args:
            instances: ``list[T]``, or a numpy array declared by ``Tensor``, of at most
                ``max_batch_size`` instances; they may come from several callers.

        Returns:
            One prediction per instance, in the same order.

        Raises:
            InvalidInput: An instance cannot be predicted on, and the caller should correct it. The
                caller gets a 422 with this text.
            Exception: Anything else. The caller gets a 502, and the log has the traceback. In both
                cases the batch is run again request by request, and only callers whose own
                instances raise get an error.
        """
        raise NotImplementedError

    predict.is_missing = True  # type: ignore[attr-defined]

    def call(
        self,
        model: str,
        instances: Any,
        *,
        version: str | None = None,
        timeout_s: float | None = None,
    ) -> Any:
        """Ask another model, which ``[calls]`` in ``model.toml`` names, and wait for its answer.

        The call has the deadline, priority, request id and trace of the request that it is made
        for. For a batch it is one request: pass all instances at once.

        Args:
            model: Its name.
            instances: A list of what it takes, or an array with axis 0 the batch.
            version: One of its versions; the default one unless given.
            timeout_s: Seconds until the answer is worthless, if that is before the deadline.

        Returns:
            One prediction per instance: a list, or an array where an array was asked with and the
            model gives one.

        Raises:
            CallFailed: There is no answer. Not caught, it is what the caller gets: see there.
        """
        return self._others().call(model, instances, version=version, timeout_s=timeout_s)

    async def acall(
        self,
        model: str,
        instances: Any,
        *,
        version: str | None = None,
        timeout_s: float | None = None,
    ) -> Any:
        """Ask another model as ``call`` does, without blocking: for an async ``predict``."""
        others = self._others()
        return await others.acall(model, instances, version=version, timeout_s=timeout_s)

    def _others(self) -> Calls:
        if self._other_models is None:
            raise RuntimeError(
                "this model calls nobody: name the models under [calls] in model.toml; in a test "
                "pass ServedModel(folder, calls={…})"
            )
        return self._other_models

    def progress(self, fraction: float, message: str = "") -> None:
        """Say how far ``predict`` is with its batch, for those who wait for jobs in it. Call it as
        often as you like: what comes faster than ten times a second is left out.

        It does nothing elsewhere than in ``predict``, from its own thread or task.

        Args:
            fraction: From 0 to 1.
            message: What it is at, in a few words: the first 200 characters are kept.
        """
        if self._reports is not None:
            self._reports.progress(fraction, message)

    def is_cancelled(self) -> bool:
        """Return whether nobody wants the batch any more that ``predict`` is at, because jobs in it
        were cancelled. Then ``raise Cancelled``: nothing that it returns is used, and if it goes on
        for longer than ``job_cancel_grace_s`` its runner is ended.

        For a ``predict`` that blocks, and from its own thread. Asking takes a microsecond. An async
        one need not ask: it is cancelled.
        """
        return self._reports is not None and self._reports.is_cancelled()

    @cached_property
    def metrics(self) -> Metrics:
        """Metrics of the model's own, which ``/metrics`` shows as ``model_…``::

            self.metrics.counter("tokens", "Tokens that were made.").inc(3)
            self.metrics.gauge("index_size", "Entries of the index.").set(10)
            self.metrics.histogram("confidence", buckets=[0.5, 0.9]).observe(0.7, answer="cat")

        Any method and any thread may use it. It raises nothing: what Prometheus does not allow,
        and more than 200 series, is dropped and logged.
        """
        metrics: Metrics = self.__dict__.setdefault("metrics", Metrics())  # one, for all threads
        return metrics

    def unload(self) -> None:  # noqa: B027  (optional)
        """Release what the end of the process does not free."""


class StreamingModel(Model):
    """A model that makes the next pieces of many streams at once, as an engine with a scheduler of
    its own does. Streams come and go at any step::

        class Counter(StreamingModel):
            def load(self) -> None:
                self.left: dict[int, int] = {}

            def admit(self, stream: int, instance: int) -> None:
                self.left[stream] = instance

            def step(self) -> list[tuple[int, int | None]]:
                made: list[tuple[int, int | None]] = []
                for stream, left in list(self.left.items()):
                    if left:
                        self.left[stream] = left - 1
                        made.append((stream, left))
                    else:
                        del self.left[stream]
                        made.append((stream, None))
                return made

            def leave(self, stream: int) -> None:
                self.left.pop(stream, None)

    ``step`` may be async, for an engine that is.
    """

    @abstractmethod
    def admit(self, stream: int, instance: Any) -> None:
        """Begin a stream; ``stream`` is its number. Annotate the instance.

        Raises:
            InvalidInput: It is refused; see ``predict``.
        """

    @abstractmethod
    def step(self) -> Any:
        """Make the next pieces. Called again and again while there are streams. Annotate it:
        ``Iterable[tuple[int, U]]``.

        Returns:
            Numbers of streams, each with its next piece; with None if it has ended, and with an
            exception if it has failed.
        """

    @abstractmethod
    def leave(self, stream: int) -> None:
        """Drop a stream: nobody reads it any longer. It may have ended."""
