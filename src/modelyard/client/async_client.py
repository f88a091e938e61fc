"""``AsyncClient``: the calls of ``client.py``, awaited with asyncio."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from typing import Any, Self, TypeVar

import httpx2

from .batch import AsyncBatch
from .batches import BatchFormat, BatchInfo, BatchTerms, batches_call, new_id
from .calls import Call, model_call, models_call, predict_call, ready_call
from .elsewhere import led_async
from .errors import DeadlineExceeded, Unavailable
from .exchange import Outcome, Reply, Retry, Send, Wait, advance
from .forms import Answer, Priority
from .frames import is_frame
from .job import AsyncJob
from .jobs import EventReader, JobInfo, JobState, Terms, job_call, jobs_call, submit_call
from .models import ModelDetails, ModelInfo
from .shell import DEFAULT_URL, EVENTS_PAUSE_S, MOST_LISTED, ONCE, Pool, begin
from .transfer import Rows, fetched_async, send_rows_async
from .wire import TimeLeft, asked, failure_of, listening, options, reply_of

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
        self._retry, self._tls = retry, tls

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
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

    async def submit(
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
    ) -> AsyncJob:
        """Let a gateway keep a request as a job, and return that; see ``Client.submit``."""
        terms = Terms(
            id=id,
            priority=priority,
            delay_s=delay_s,
            expires_s=expires_s,
            max_attempts=max_attempts,
            callback=callback,
        )
        call = submit_call(model, instances, version=version, timeout_s=timeout_s, terms=terms)
        return self.job(await self._run(call, self._retry))

    def job(self, id: str) -> AsyncJob:  # noqa: A002
        """Return a job by its name. The gateway is not asked yet."""
        return AsyncJob(id, self._retried, self._events)

    async def jobs(
        self, *, state: JobState | None = None, model: str | None = None, limit: int = 100
    ) -> list[JobInfo]:
        """Return jobs, the newest first: those in a state, or of a model, if that is given."""
        found: list[JobInfo] = []
        after: str | None = None
        while len(found) < limit:
            most = min(limit - len(found), MOST_LISTED)
            call = jobs_call(state=state, model=model, limit=most, after=after)
            page = await self._run(call, self._retry)
            found += page.jobs
            if (after := page.next) is None:
                break
        return found

    async def batch(
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
    ) -> AsyncBatch:
        """Make a bulk run of a file or a data frame, and return it; see ``Client.batch``."""
        batch_id = new_id() if id is None else id
        terms = BatchTerms(output_format=output_format, version=version, columns=columns, keep=keep)
        rows = Rows(data, format, model, terms, callback)
        await send_rows_async(self._pool.http, batch_id, rows)
        fetch, frame = partial(fetched_async, self._pool.http), data if is_frame(data) else None
        return AsyncBatch(batch_id, self._retried, fetch, frame=frame)

    def find_batch(self, id: str) -> AsyncBatch:  # noqa: A002
        """Return a bulk run by its name. The gateway is not asked yet."""
        return AsyncBatch(id, self._retried, partial(fetched_async, self._pool.http))

    async def batches(
        self, *, state: JobState | None = None, model: str | None = None, limit: int = 100
    ) -> list[BatchInfo]:
        """Return bulk runs, the newest first: those in a state, or of a model, if that is given."""
        return await self._retried(batches_call(state=state, model=model, limit=limit))

    async def ready(self) -> bool:
        """Return whether a gateway accepts requests; tries once."""
        try:
            return await self._run(ready_call(), ONCE)
        except (Unavailable, DeadlineExceeded):
            return False

    async def _retried(self, call: Call[T], /) -> T:
        return await self._run(call, self._retry)

    async def _events(self, job_id: str) -> AsyncIterator[JobInfo]:
        """Yield a job at each change; a connection that is lost is made again."""
        reader, info = EventReader(), None
        while info is None or not info.is_over:
            try:
                async with self._pool.http.stream(**listening(job_id, reader.last_id)) as response:
                    if response.status_code != 200:
                        await self._retried(job_call(job_id))  # raises, if there is no such job
                    async for line in response.aiter_lines():
                        for info in reader.feed(line):
                            yield info
            except httpx2.RequestError as error:
                failure_of(error)
            if info is None or not info.is_over:
                await asyncio.sleep(EVENTS_PAUSE_S)

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
            async with (
                self._pool.http.stream(**request) as first,
                led_async(first, time_left, self._tls) as response,
            ):
                async for piece in response.aiter_bytes():
                    body += piece
                    time_left.check()
                return reply_of(response, body)
        except httpx2.RequestError as error:
            return failure_of(error)
