"""``POST /predict``: from a head and a body to ``Dispatch.start``, and back to bytes.

Every prediction takes this path, whatever its size, form or encoding. It decodes what is around the
instances (``question.py``), but not these. It creates no task. ``answer.py`` encodes responses.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from modelyard.access.gate import Gate
from modelyard.access.proxies import Proxies
from modelyard.core.clock import Clock
from modelyard.core.errors import GivenUp, RequestError, as_request_error
from modelyard.core.names import Target
from modelyard.dispatch.dispatch import Ask, ClientCall, Dispatch
from modelyard.gateway.answer import prediction_body, prediction_head, problem_answer
from modelyard.gateway.asked import Answered, Asked, with_lines
from modelyard.gateway.budget import Budget
from modelyard.gateway.cors import Cors
from modelyard.gateway.counted import start_counted
from modelyard.gateway.door import Door, Heard, Told
from modelyard.gateway.heads import Head, Plan
from modelyard.gateway.inflate import INLINE_INFLATE_BYTES
from modelyard.gateway.known import Given, id_in
from modelyard.gateway.plans import (
    CHAIN_HEADER,
    NO_PLAN,
    NOT_SAMPLED,
    plan_of,
    read_body,
    traced,
    who_of,
    without_order,
)
from modelyard.gateway.preparing import Begun, Predicting, Preparing
from modelyard.gateway.question import INLINE_PARSE_BYTES, new_request_id, request_id_of
from modelyard.gateway.streams import StreamStarter
from modelyard.gateway.submitting import Submitting, submitter_of
from modelyard.gateway.traced import RequestSpans
from modelyard.gateway.types import GatewayMetrics, Respond

log = logging.getLogger(__name__)


class PredictEndpoint:
    """Answers predictions.

    Args:
        dispatch: Answers every well-formed request.
        metrics: Receives every answer.
        max_body_bytes: Limit of a body after decompression.
        max_bodies_bytes: Upper bound on the bodies of all requests in progress.
        is_access_logged: Whether to log a line per request.
        clock: For the duration of requests.
        cors: Which origins may read the answers.
        gate: Says who may ask; None if everybody may.
        sticky_header: The header that routes may stick to, in lower case; empty for none.
        spans: Traces requests; None for no traces.

    Attributes:
        jobs: Makes jobs of requests that want it; None if none are kept here.
    """

    def __init__(
        self,
        *,
        dispatch: Dispatch,
        metrics: GatewayMetrics,
        max_body_bytes: int,
        max_bodies_bytes: int,
        is_access_logged: bool,
        clock: Clock,
        cors: Cors,
        gate: Gate | None = None,
        sticky_header: str = "",
        spans: RequestSpans | None = None,
    ) -> None:
        self._note_answer = metrics.answered
        self.jobs: Submitting | None = None
        self.sticky_header, self.cors = sticky_header.encode("ascii"), cors
        self._gate, self._dispatch = gate, dispatch
        self.budget = Budget(max_bodies_bytes)
        self._max_body_bytes, self._clock = max_body_bytes, clock
        self._is_access_logged, self._spans = is_access_logged, spans
        self._is_only_counted = spans is None and not is_access_logged
        self._streams = StreamStarter(
            dispatch, clock=clock, gate=gate, answer_whole=self._on_answered, note=self._note
        )

    @property
    def proxies(self) -> Proxies | None:
        """Who may speak for callers."""
        return None if self._gate is None else self._gate.proxies

    def plan(self, head: Head, host: str) -> Plan | None:
        """Return how to read the body of a request from ``host``; None if it is no prediction.

        Raises:
            RequestError: The request is refused because of its head.
        """
        if self.cors.is_on and self.cors.is_preflight(head.method, head.headers):
            return None
        plan = plan_of(head)
        if plan is None:
            return None
        if (proxies := self.proxies) is not None and isinstance(plan.credential, bytes):
            vouched = proxies.vouch(head.fields(), plan.credential, peer=host)
            plan = plan._replace(credential=vouched)
        if self.cors.is_on and (lines := self.cors.lines_for(head.headers.get(b"origin"))):
            plan = plan._replace(cors=lines)
        if self.sticky_header or CHAIN_HEADER in head.headers:
            plan = plan._replace(who=who_of(head, self.sticky_header))
        return plan

    def admit(self, plan: Plan, host: str) -> None:
        """See that a request comes from somebody who may ask here at all, before its body is read.

        Raises:
            Unauthenticated: It does not.
        """
        if self._gate is not None:
            self._gate.principal_of(plan.credential, host)

    def begin(
        self,
        plan: Plan,
        body: bytes | bytearray,
        respond: Respond,
        *,
        given: Given | None,
        host: str = "",
    ) -> Predicting | None:
        """Begin to answer; ``respond`` is called once, maybe at once.

        Returns what is then in progress. ``given``: its own lines. ``host``: the client's address.
        """
        trace = None
        if given:
            request_id, trace = request_id_of(given[0]), given[1]
            if self._dispatch.catalog.passes_traces:
                plan = traced(plan, trace)
        else:
            request_id = new_request_id()
        if self._spans is not None:
            is_drawn = self._spans.chance() < self._spans.rate
            if is_drawn or plan.order or (trace and not trace.endswith(NOT_SAMPLED)):
                plan = self._spans.begin(plan, trace, is_drawn=is_drawn)
        if plan.cors:
            respond = with_lines(plan.cors, respond)
        asked = Asked(plan, request_id, self._clock(), respond, host, trace)
        if plan.coding:
            return self._prepare(asked, body, is_slow=len(body) > INLINE_INFLATE_BYTES)
        if len(body) > INLINE_PARSE_BYTES and (plan.door or plan.form != "msgpack"):
            is_slow = plan.door is None or not plan.door.is_quick(len(body))
            return self._prepare(asked, body, is_slow=is_slow)
        try:
            return self._start(asked, read_body(plan, body, self._max_body_bytes))
        except Exception as error:
            self._fail(asked, error, None)
            return None

    def refuse(
        self,
        error: RequestError,
        respond: Respond,
        *,
        given: Given | None,
        door: Door | None = None,
        origin: bytes | None = None,
    ) -> None:
        """Answer a request that is refused before its body has been read."""
        if lines := self.cors.lines_for(origin):
            respond = with_lines(lines, respond)
        plan = NO_PLAN._replace(door=door)
        asked = Asked(plan, request_id_of(id_in(given)), self._clock(), respond, "")
        self._answer_problem(asked, error, None)

    def _start(self, asked: Asked, ask: Ask) -> Begun:
        plan = asked.plan
        if ask.timeout_s is not None and ask.timeout_s > (cap_s := self._dispatch.timeout_cap_s):
            respond = with_lines(b"x-timeout-s: %g\r\n" % cap_s, asked.respond)
            asked = asked._replace(respond=respond)
        answered = partial(self._on_answered, asked)
        principal = None
        if (gate := self._gate) is not None:
            principal = gate.check_prediction(plan.credential, asked.host, ask.model_name)
        if plan.door is not None:
            if plan.order is not None:
                if self.jobs is None:  # then it is answered at once, as RFC 7240, 2 allows
                    return self._start(asked._replace(plan=without_order(plan)), ask)
                submitter = submitter_of(principal, gate)
                return self.jobs.begin(asked, ask, submitter, partial(self._answer_problem, asked))
            entry = self._dispatch.catalog.stable(ask.model_name, ask.model_version)
            plan.door.check(entry, ask)
            if isinstance(ask, Heard) and ask.written is not None:
                return self._streams.start(asked, ask, ask.written, principal)
            answered = partial(self._on_door_answered, asked, plan.door, ask)
        if gate is not None and principal is not None:
            account = principal.account or gate.open_account(principal)
            return start_counted(
                self._dispatch, account, ask, answered, request_id=asked.request_id, plan=plan
            )
        return self._dispatch.start(
            ask,
            answered,
            asked.request_id,
            form=plan.form,
            is_bypass=plan.is_bypass,
            who=plan.who,
        )

    # Bodies that are compressed, or take long to parse.

    def _prepare(
        self, asked: Asked, body: bytes | bytearray, *, is_slow: bool
    ) -> Predicting | None:
        """Decompress and decode, in a thread if that would block the loop for too long."""
        try:
            room = self.budget.take(self._max_body_bytes) if asked.plan.coding else 0
        except RequestError as error:
            self._answer_problem(asked, error, None)
            return None
        preparing = Preparing(partial(self._on_given_up, asked))
        read = partial(read_body, asked.plan, body, self._max_body_bytes)
        if is_slow:
            reading = asyncio.get_running_loop().run_in_executor(None, read)
        else:
            reading = asyncio.get_running_loop().create_future()
            try:
                reading.set_result(read())
            except Exception as error:
                reading.set_exception(error)
        reading.add_done_callback(partial(self._on_prepared, asked, preparing, room))
        return preparing

    def _on_prepared(
        self, asked: Asked, preparing: Preparing, room: int, reading: asyncio.Future[Ask]
    ) -> None:
        if preparing.outcome is not None:  # cancelled in the meantime
            reading.exception()
            self.budget.give_back(room)
            return
        kept = 0
        try:
            ask = reading.result()
            call = self._start(asked, ask)
            preparing.become(call)
            if call.outcome is None:
                kept = min(room, len(memoryview(ask.input_data)))
                call.watch(lambda _: self.budget.give_back(kept))
        except Exception as error:
            preparing.become(self._fail(asked, error, None))
        self.budget.give_back(room - kept)

    def _on_given_up(self, asked: Asked, error: RequestError) -> None:
        if isinstance(error, GivenUp):
            self._note(asked, None, error.code, self._clock() - asked.started)
        else:
            self._answer_problem(asked, error, None)

    # The way back.

    def _on_answered(self, asked: Asked, call: ClientCall) -> None:
        outcome, target = call.outcome, call.entry.target
        if isinstance(outcome, bytes):
            form, request_id = asked.plan.form, asked.request_id
            body = prediction_body(target, outcome, form)
            head = prediction_head(form, len(body), request_id=request_id, cache_use=call.cache_use)
            asked.respond(head, body)
            self._note(asked, target, "ok", self._clock() - asked.started, call)
        elif isinstance(outcome, GivenUp):
            self._note(asked, target, outcome.code, self._clock() - asked.started, call)
        elif outcome is not None:
            self._answer_problem(asked, outcome, target, call)

    def _on_door_answered(self, asked: Asked, door: Door, ask: Ask, call: ClientCall) -> None:
        """Answer a call in the format of its door's protocol."""
        if not isinstance(call.outcome, bytes):
            self._on_answered(asked, call)
            return
        assert isinstance(ask, Heard)
        target, told = call.entry.target, Told(asked.request_id, call.cache_use)
        try:
            head, body = door.answer(target, call.outcome, ask.echo, told=told)
        except Exception as error:
            self._fail(asked, error, target)
            return
        asked.respond(head, body)
        self._note(asked, target, "ok", self._clock() - asked.started, call)

    def _fail(self, asked: Asked, error: Exception, target: Target | None = None) -> RequestError:
        """Answer a request that failed on its way to dispatch, or back; returns the error sent."""
        told = as_request_error(error, log, asked.request_id)
        self._answer_problem(asked, told, target)
        return told

    def _answer_problem(
        self, asked: Asked, error: RequestError, target: Target | None, call: Answered = None
    ) -> None:
        door, request_id = asked.plan.door, asked.request_id
        head, body = (problem_answer if door is None else door.problem)(error, request_id)
        asked.respond(head, body)
        self._note(asked, target, error.code, self._clock() - asked.started, call)

    def _note(
        self, asked: Asked, target: Target | None, code: str, seconds: float, call: Answered = None
    ) -> None:
        self._note_answer(target, code, seconds)
        if self._is_only_counted:
            return
        spans, traced_as = self._spans, {}
        if spans is not None and (code != "ok" or asked.plan.who.since or spans.slow_s):
            ended_s = self._clock() - asked.started  # of pieces ``seconds`` is until the first
            traced_as = spans.end(asked, target, code, (seconds, ended_s), call)
        if self._is_access_logged:
            fields = {"id": asked.request_id, "model": str(target), "code": code, **traced_as}
            log.info("request", extra={**fields, "seconds": seconds})
