"""Makes jobs of requests: a 202 is sent when one is kept, and not before."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from modelyard.access.accounts import Account
from modelyard.access.gate import Gate
from modelyard.access.keyring import Principal
from modelyard.core.batch import Priority
from modelyard.core.call import Outcome
from modelyard.core.clock import Clock, WallClock
from modelyard.core.errors import GivenUp, InvalidInput, RequestError, TooLarge, as_request_error
from modelyard.core.objects import why_no_errand
from modelyard.core.spans import parent_of
from modelyard.dispatch.dispatch import Ask, Dispatch
from modelyard.dispatch.entry import Entry
from modelyard.gateway.asked import Asked
from modelyard.gateway.counted import cost_of
from modelyard.gateway.heads import Plan
from modelyard.gateway.orders import Order
from modelyard.gateway.plans import JOB_DOORS
from modelyard.gateway.submission_count import SubmissionCount
from modelyard.jobs.intake import Intake, Then
from modelyard.jobs.job import NewJob, Uids
from modelyard.jobs.objects import Objects

if TYPE_CHECKING:
    from modelyard.gateway.traced import RequestSpans

log = logging.getLogger(__name__)

_HEAD = (
    b"HTTP/1.1 202 Accepted\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
    b"location: /jobs/%b\r\nx-request-id: %b\r\n"
)
_APPLIED = b"preference-applied: respond-async\r\n"
_JOB_ID, _KEY = map(Order._fields.index, ("job_id", "idempotency_key"))
_RANKS: dict[Priority, int] = {"high": -50, "normal": 0, "low": 50}
"""What the priority in a body means among jobs, which all run at the dispatch's lowest."""


class Terms(NamedTuple):
    """What jobs are kept on.

    Attributes:
        expires_s: No job is begun later than after so many seconds.
        max_attempts: How often one that says nothing else may fail.
        check_callback: Raises a RequestError if ends cannot be told to a URL.
        most_plain_bytes: How large an input may be that goes in a message.
    """

    expires_s: float
    max_attempts: int
    check_callback: Callable[[str], None]
    most_plain_bytes: int = sys.maxsize


class Submitter(NamedTuple):
    """Whose job it is. ``account``: None if callers are not known."""

    tenant: str = ""
    owner: str = ""
    account: Account | None = None


class Submission:
    """A request that is becoming a job: in progress until that is kept."""

    def __init__(self) -> None:
        self.outcome: Outcome | None = None
        self._watchers: list[Callable[[object], None]] = []

    def settle(self, outcome: Outcome) -> None:
        """See ``Predicting``. Who leaves meanwhile has a job all the same."""
        if self.outcome is None:
            self.outcome = outcome
            for watcher in self._watchers:
                watcher(self)

    def watch(self, watcher: Callable[[object], None]) -> None:
        """Call ``watcher`` when it is kept or refused."""
        self._watchers.append(watcher)


Refuse = Callable[[RequestError, None], None]
"""Answers with an error; of which version is not known."""


def submitter_of(principal: Principal | None, gate: Gate | None) -> Submitter:
    """Return whose job it is that a caller submits."""
    if principal is None or gate is None:
        return Submitter()
    account = principal.account or gate.open_account(principal)
    return Submitter(principal.tenant.hex(), account.owner, account)


class Submitting:
    """Makes jobs.

    Args:
        intake: Keeps them.
        terms: On which.
        dispatch: Knows what is asked.
        uids: Names jobs.
        clock: Monotonic seconds.
        wall_clock: Unix time, in seconds.
        spans: Of requests that are traced; None if there are no traces.
        is_logged: Whether there is a line for each job that is kept.
        objects: Takes large inputs; None if there is no place for them.
    """

    def __init__(
        self,
        intake: Intake,
        terms: Terms,
        *,
        dispatch: Dispatch,
        uids: Uids,
        clock: Clock,
        wall_clock: WallClock,
        spans: RequestSpans | None = None,
        is_logged: bool = False,
        objects: Objects | None = None,
    ) -> None:
        self._objects = objects
        self._putting: set[asyncio.Task[None]] = set()
        self._clock = clock
        self._spans = spans
        self._is_logged = is_logged
        self._uids = uids
        self._intake = intake
        self._terms = terms
        self._dispatch = dispatch
        self._wall_clock = wall_clock

    def begin(self, asked: Asked, ask: Ask, submitter: Submitter, refuse: Refuse) -> Submission:
        """Begin to keep a job.

        Args:
            asked: The request; its plan has an order.
            ask: What it asks.
            submitter: Who asks.
            refuse: Answers with an error, if it cannot be kept after all.

        Raises:
            RequestError: It cannot be kept.
        """
        entry = self._dispatch.catalog.resolve(ask.model_name, ask.model_version)
        input_ = memoryview(ask.input_data)
        objects = self._objects if self._is_object(entry, input_) else None
        job = self._make(asked.plan, ask, submitter, b"" if objects else bytes(input_))
        counting = SubmissionCount(submitter.account, entry, input_, asked.plan.form)
        counting.enter(ask, partial(cost_of, self._dispatch, ask, asked.plan.form))
        submission = Submission()

        def then(verdict: str | RequestError) -> None:
            counting.leave(is_kept=isinstance(verdict, str))
            is_awaited = submission.outcome is None
            if isinstance(verdict, str):
                self._tell(asked, job, verdict)
            elif self._spans is not None and not is_awaited:
                self._spans.left(asked.plan.who)
            submission.settle(b"" if isinstance(verdict, str) else verdict)
            if not is_awaited:
                return
            if isinstance(verdict, str):
                asked.respond(*_answer_of(verdict, asked))
            else:
                refuse(verdict, None)

        try:
            if objects is None:
                self._intake.add(job, then)
            else:
                assert asked.plan.order is not None
                form = (job.form, job.door, job.echo)
                digest = partial(_digest_of, ask, asked.plan.order, form, input_)
                putting = asyncio.create_task(self._put(objects, job, input_, digest, then))
                self._putting.add(putting)
                putting.add_done_callback(self._putting.discard)
                submission.watch(partial(_cancel, putting))  # if its client has left
        except BaseException:
            counting.leave(is_kept=False)
            raise
        return submission

    def _tell(self, asked: Asked, job: NewJob, job_id: str) -> None:
        """Tell that a request has become a job."""
        if self._is_logged:
            fields = {"id": asked.request_id, "job": job_id, "model": job.model}
            trace = parent_of(job.trace or "")
            fields |= {} if trace is None else {"trace_id": trace.context.trace_id}
            log.info("job_accepted", extra=fields)
        if self._spans is not None:
            self._spans.kept(asked, job.model, job_id, self._clock() - asked.started)

    def _is_object(self, entry: Entry, input_: memoryview) -> bool:
        """Return whether an input is sent as an object.

        Raises:
            TooLarge: It would have to be, and the model's workers fetch none.
        """
        takes = entry.announcement.takes_errands
        if len(input_) > self._terms.most_plain_bytes and not takes:
            raise TooLarge(why_no_errand(entry.target))
        return self._objects is not None and takes and len(input_) > self._objects.above_bytes

    async def _put(
        self,
        objects: Objects,
        job: NewJob,
        input_: memoryview,
        digest: Callable[[], str],
        then: Then,
    ) -> None:
        """Put an input in its place, and keep the job then."""
        try:
            found = await objects.put(job.uid, input_)
            asked = await asyncio.to_thread(digest)
            self._intake.add(msgspec.structs.replace(job, object=found, digest=asked), then)
        except asyncio.CancelledError:
            then(GivenUp("the client has left"))
            raise
        except Exception as error:
            then(as_request_error(error, log, job.uid))

    def _make(self, plan: Plan, ask: Ask, submitter: Submitter, input_: bytes) -> NewJob:
        order, now = plan.order, self._wall_clock()
        assert order is not None
        uid = self._uids.new(now)
        expires_s = self._terms.expires_s
        if order.expires_s is not None:
            expires_s = min(order.expires_s, expires_s)
        if order.delay_s >= expires_s:
            raise InvalidInput(f"a job that may begin in {order.delay_s:g} s expires before that")
        if order.callback is not None:
            self._terms.check_callback(order.callback)
        door, echo = JOB_DOORS[type(plan.door)], getattr(ask, "echo", b"").decode()
        trace = parent_of(plan.who.trace) if plan.who.trace else None
        return NewJob(
            uid=uid,
            id=order.job_id or uid,
            tenant=submitter.tenant,
            owner=submitter.owner,
            key="" if submitter.account is None else submitter.account.key,
            model=ask.model_name,
            version=ask.model_version,
            form=plan.form,
            door=door,
            echo=echo,
            input=input_,
            timeout_s=ask.timeout_s,
            rank=_RANKS[ask.priority] - order.priority,
            created=now,
            ready_at=now + order.delay_s,
            deadline=now + expires_s,
            max_attempts=order.max_attempts or self._terms.max_attempts,
            callback=order.callback,
            idempotency_key=order.idempotency_key,
            digest=_digest_of(ask, order, (plan.form, door, echo), input_),
            trace=None if trace is None else trace.traceparent(),
        )


def _cancel(putting: asyncio.Task[None], _: object) -> None:
    putting.cancel()


def _answer_of(job_id: str, asked: Asked) -> tuple[bytes, bytes]:
    body = b'{"id":"%b","state":"queued"}' % job_id.encode()
    head = _HEAD % (len(body), job_id.encode(), asked.request_id.encode())
    order = asked.plan.order
    is_named = order is not None and order.job_id
    return (head if is_named else head + _APPLIED), body


def _digest_of(
    ask: Ask, order: Order, form: tuple[str, str, str], input_: bytes | memoryview
) -> str:
    """Return the digest of all that makes a request another one."""
    terms = list(order)
    terms[_JOB_ID], terms[_KEY] = "", None
    said = (ask.model_name, ask.model_version, ask.timeout_s, ask.priority, *form, *terms)
    digest = sha256(msgspec.json.encode(said))
    digest.update(input_)
    return digest.hexdigest()
