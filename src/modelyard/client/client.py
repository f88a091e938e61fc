"""``Client``: calls that block.

What a call sends is in ``calls.py``, when it is sent again in ``exchange.py``; here is only what
blocks, and in ``async_client.py`` what is awaited.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Self, TypeVar

import httpx2

from .batch import Batch
from .batches import BatchFormat, BatchInfo, BatchTerms, batches_call, new_id
from .calls import Call, model_call, models_call, predict_call, ready_call
from .elsewhere import led
from .errors import DeadlineExceeded, Unavailable
from .exchange import Outcome, Reply, Retry, Send, Wait, advance
from .forms import Answer, Priority
from .frames import is_frame
from .job import Job
from .jobs import EventReader, JobInfo, JobState, Terms, job_call, jobs_call, submit_call
from .models import ModelDetails, ModelInfo
from .shell import DEFAULT_URL, EVENTS_PAUSE_S, MOST_LISTED, ONCE, Pool, begin
from .transfer import Rows, fetched, send_rows
from .wire import TimeLeft, asked, failure_of, listening, options, reply_of

T = TypeVar("T")


class Client:
    """Asks a gateway, and waits for its answers. Threads may share one.

    Args:
        url: The gateway's, with the path that a proxy puts before it, if any.
        api_key: Sent with every request, where the gateway wants to know who asks.
        headers: Sent with every request.
        timeout_s: Seconds for each prediction that says nothing else; None leaves it to the model.
        retry: How often to try what may be tried again.
        connections: At most so many at once; who finds none free waits for one.
        tls: Certificates and rules for https; the system's unless given.
        transport: Answers instead of a network: see ``modelyard_client.testing``. Or one of
            httpx2's, as for a proxy or a Unix socket.

    Raises:
        ValueError: ``url`` is not one of HTTP.
    """

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
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        with_ = options(url, api_key=api_key, headers=headers, connections=connections, tls=tls)
        self._pool = Pool(lambda: httpx2.Client(**with_, transport=transport))
        self._timeout_s = timeout_s
        self._retry, self._tls = retry, tls

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._pool.http.close()

    def predict(
        self,
        model: str,
        instances: Any,
        *,
        version: str | None = None,
        timeout_s: float | None = None,
        priority: Priority | None = None,
        fresh: bool = False,
    ) -> Any:
        """Return a model's predictions, one per instance in the same order.

        Args:
            model: Its name.
            instances: A list of what the model takes, or an array with axis 0 the batch.
            version: One of the model's versions; the default one unless given.
            timeout_s: Seconds until the answer is worthless, retries included. The gateway gets it
                as the deadline; here it is waited 1 s longer for what the gateway says of it.
            priority: ``high`` goes before ``normal``.
            fresh: Whether the model must run: no answer from a cache.

        Returns:
            A list; an array where an array was asked with and the model gives one.

        Raises:
            ModelyardError: There is no answer; the tree is in ``modelyard_client.errors``.
            ValueError, TypeError, OverflowError: The arguments cannot be sent.
        """
        return self.ask(
            model,
            instances,
            version=version,
            timeout_s=timeout_s,
            priority=priority,
            fresh=fresh,
        ).predictions

    def ask(
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
        return self._run(call, self._retry)

    def models(self) -> list[ModelInfo]:
        """Return all models with their versions and states."""
        return self._run(models_call(), self._retry)

    def model(self, name: str) -> ModelDetails:
        """Return one model, with the input and output schemas of its versions.

        Raises:
            ModelNotFound: No model has this name.
        """
        return self._run(model_call(name), self._retry)

    def submit(
        self,
        model: str,
        instances: Any,
        *,
        version: str | None = None,
        timeout_s: float | None = None,
        id: str | None = None,  # noqa: A002
        priority: int | None = None,
        delay_s: float | None = None,
        expires_s: float | None = None,
        max_attempts: int | None = None,
        callback: str | None = None,
    ) -> Job:
        """Let a gateway keep a request as a job, and return that. It is kept when this returns.

        Args:
            model: The model's name.
            instances: As for ``predict``.
            version: One of the model's versions; the one that is the default when the job is run
                unless given.
            timeout_s: Seconds that one attempt may take; the model's own unless given.
            id: A name for the job; one is made unless given. Submitted again, it is the same job.
            priority: From -100 to 100: of the jobs of a model the highest goes first.
            delay_s: Seconds before which it is not run.
            expires_s: Seconds after which it is not begun.
            max_attempts: How often an attempt may fail.
            callback: A URL that is told of its end.

        Raises:
            ModelyardError: It is not kept.
            ValueError, TypeError, OverflowError: The arguments cannot be sent.
        """
        terms = Terms(
            id=id,
            priority=priority,
            delay_s=delay_s,
            expires_s=expires_s,
            max_attempts=max_attempts,
            callback=callback,
        )
        call = submit_call(model, instances, version=version, timeout_s=timeout_s, terms=terms)
        return self.job(self._run(call, self._retry))

    def job(self, id: str) -> Job:  # noqa: A002
        """Return a job by its name. The gateway is not asked yet."""
        return Job(id, self._retried, self._events)

    def jobs(
        self, *, state: JobState | None = None, model: str | None = None, limit: int = 100
    ) -> list[JobInfo]:
        """Return jobs, the newest first: those in a state, or of a model, if that is given."""
        found: list[JobInfo] = []
        after: str | None = None
        while len(found) < limit:
            most = min(limit - len(found), MOST_LISTED)
            call = jobs_call(state=state, model=model, limit=most, after=after)
            page = self._run(call, self._retry)
            found += page.jobs
            if (after := page.next) is None:
                break
        return found

    def batch(
        self,
        model: str,
        data: Any,
        *,
        version: str | None = None,
        format: BatchFormat | None = None,  # noqa: A002
        output_format: BatchFormat | None = None,
        columns: Sequence[str] = (),
        keep: Sequence[str] = (),
        id: str | None = None,  # noqa: A002
        callback: str | None = None,
    ) -> Batch:
        """Make a bulk run of the rows of a file, or of a data frame of pandas or polars, and return
        it. It is kept when this returns.

        Args:
            model: The model's name.
            data: A data frame; or the path of a file of CSV, JSON Lines, Parquet or Arrow.
            version: One of the model's versions; the one that is the default now unless given.
            format: What is in the file; what its name says unless given.
            output_format: Of the output; that of the input unless given.
            columns: Which columns a model of lists takes, in this order; all unless given.
            keep: Columns of the input that the output repeats.
            id: A name for the run; one is made unless given. A run of that name is found again.
            callback: A URL that is told of its end.

        Raises:
            ModelyardError: It is not kept.
            ValueError, TypeError, OSError: There is no such file, or nothing is known of it.
        """
        batch_id = new_id() if id is None else id
        terms = BatchTerms(output_format=output_format, version=version, columns=columns, keep=keep)
        rows = Rows(data, format, model, terms, callback)
        send_rows(self._pool.http, batch_id, rows)
        fetch, frame = partial(fetched, self._pool.http), data if is_frame(data) else None
        return Batch(batch_id, self._retried, fetch, frame=frame)

    def find_batch(self, id: str) -> Batch:  # noqa: A002
        """Return a bulk run by its name. The gateway is not asked yet."""
        return Batch(id, self._retried, partial(fetched, self._pool.http))

    def batches(
        self, *, state: JobState | None = None, model: str | None = None, limit: int = 100
    ) -> list[BatchInfo]:
        """Return bulk runs, the newest first: those in a state, or of a model, if that is given."""
        return self._retried(batches_call(state=state, model=model, limit=limit))

    def ready(self) -> bool:
        """Return whether a gateway accepts requests; tries once."""
        try:
            return self._run(ready_call(), ONCE)
        except (Unavailable, DeadlineExceeded):
            return False

    def _retried(self, call: Call[T], /) -> T:
        return self._run(call, self._retry)

    def _events(self, job_id: str) -> Iterator[JobInfo]:
        """Yield a job at each change; a connection that is lost is made again."""
        reader, info = EventReader(), None
        while info is None or not info.is_over:
            try:
                with self._pool.http.stream(**listening(job_id, reader.last_id)) as response:
                    if response.status_code != 200:
                        self._retried(job_call(job_id))  # raises, if there is no such job
                    for line in response.iter_lines():
                        for info in reader.feed(line):
                            yield info
            except httpx2.RequestError as error:
                failure_of(error)
            if info is None or not info.is_over:
                time.sleep(EVENTS_PAUSE_S)

    def _run(self, call: Call[T], retry: Retry) -> T:
        steps = begin(call, retry)
        step = advance(steps, None)
        while not isinstance(step, Reply):
            if isinstance(step, Wait):
                time.sleep(step.seconds)
                step = advance(steps, None)
            else:
                step = advance(steps, self._send(call, step))
        return call.read(step)

    def _send(self, call: Call[T], step: Send) -> Outcome:
        time_left, body = TimeLeft(step.give_up), bytearray()
        request = asked(call.write(step.timeout_s), time_left)
        try:
            with (
                self._pool.http.stream(**request) as first,
                led(first, time_left, self._tls) as response,
            ):
                for piece in response.iter_bytes():
                    body += piece
                    time_left.check()
                return reply_of(response, body)
        except httpx2.RequestError as error:
            return failure_of(error)
