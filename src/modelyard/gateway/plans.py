"""Determines from a request's head how its body is read, for every protocol; and reads it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import msgspec

from modelyard.core.errors import JobNotFound, RequestError, WrongMediaType
from modelyard.core.messages import Form
from modelyard.core.routes import UNKNOWN, Who
from modelyard.core.trail import CALLED_BY, LONGEST_TRACE
from modelyard.dispatch.dispatch import Ask
from modelyard.gateway.budget import SMALL_BYTES
from modelyard.gateway.door import Door, RefusingDoor
from modelyard.gateway.embeddings import open_embeddings
from modelyard.gateway.formats import StreamFormat, format_of
from modelyard.gateway.heads import Head, Plan
from modelyard.gateway.inflate import Coding, inflate
from modelyard.gateway.openai import CompletionsDoor, open_completions
from modelyard.gateway.orders import Order, job_id_of, order_of, wants_job
from modelyard.gateway.predict_door import PredictDoor
from modelyard.gateway.problems import MethodNotAllowed
from modelyard.gateway.question import address_of, form_of, read_ask
from modelyard.gateway.uploads import is_upload, read_upload
from modelyard.gateway.v1 import V1Door, open_v1
from modelyard.gateway.v2 import V2Door, open_v2
from modelyard.gateway.v2_generate import GenerateDoor, open_generate

NO_PLAN = Plan("json", is_bypass=False, coding="")
"""Plan of a request that is refused before its plan is known."""

NOT_SAMPLED = b"-00"
"""The end of a ``traceparent`` whose caller does not record its own span."""

PATH = b"/predict"
CHAIN_HEADER = CALLED_BY.encode()
_CODINGS: dict[bytes, Coding] = {
    **{b"identity": "", b"gzip": "gzip", b"x-gzip": "gzip"},
    b"deflate": "deflate",
}


def plan_of(head: Head) -> Plan | None:
    """Return the plan of a request; None if it is not a prediction.

    Raises:
        RequestError: The request is refused because of its head.
    """
    door = address = None
    if head.path != PATH:
        door = _open(head)
        if door is None:
            address = address_of(head.path) if head.path.endswith(PATH) else None
            if address is None:
                return _plan_of_named_job(head)
    plan = _make_plan(head, address) if door is None else _make_door_plan(head, door)
    if b"prefer" in head.headers and _may_be_job(plan) and wants_job(head.headers[b"prefer"]):
        return _with_order(plan, order_of(head.headers))
    return plan


JOB_DOORS: dict[type, str] = {PredictDoor: "", V1Door: "v1", V2Door: "v2"}
"""What jobs can be asked through, and what each is called in the store."""
NO_STORE = (
    "this server keeps no jobs: it has no store. Run `modelyard store upgrade` with its settings, "
    "and start it again"
)


def without_order(plan: Plan) -> Plan:
    """Return the plan of a request of which no job can be made, as if it had not asked for one.

    Raises:
        JobNotFound: It is of use as a job alone.
    """
    if plan.order is not None and plan.order.job_id:
        raise JobNotFound(NO_STORE)
    is_ours = isinstance(plan.door, PredictDoor)
    return plan._replace(order=None, door=None if is_ours else plan.door)


def _may_be_job(plan: Plan) -> bool:
    """Return whether a job can be made of it: pieces are for who waits for them, and OpenAI's
    addresses have batches instead.
    """
    return not plan.may_stream and (plan.door is None or type(plan.door) in JOB_DOORS)


def _plan_of_named_job(head: Head) -> Plan | None:
    """Return the plan of ``PUT /jobs/ID``; None for any other request."""
    if head.method != b"PUT" or (job_id := job_id_of(head.path)) is None:
        return None
    return _with_order(_make_plan(head, None, method=b"PUT"), order_of(head.headers, job_id))


def _with_order(plan: Plan, order: Order) -> Plan:
    """Return the plan of a request that becomes a job. It has a door, as what is answered later."""
    door = plan.door
    if door is None or isinstance(door, PredictDoor):
        door = _predict_door(plan)
    return plan._replace(order=order, door=door, may_stream=False)


def _predict_door(plan: Plan, written: StreamFormat | None = None) -> PredictDoor:
    name, version, upload = plan.name, plan.version, plan.upload
    read = None
    if upload and name is not None:
        read = partial(
            read_upload, content_type=upload, name=name, version=version, query=plan.query
        )
    return PredictDoor(plan.form, read, name=name, version=version, written=written)


def _open(head: Head) -> Door | None:
    """Return the door of a request; None if it needs none, or is no prediction."""
    for open_door in (open_v2, open_v1, open_generate, open_completions, open_embeddings):
        if (door := open_door(head)) is not None:
            return door
    return None


def _make_plan(
    head: Head, address: tuple[str, str | None] | None, *, method: bytes = b"POST"
) -> Plan:
    if head.method != method:
        _check_method(head)
    name, version = address or (None, None)
    content_type = head.headers.get(b"content-type", b"")
    form, upload = form_of(content_type), b""
    if form is None:
        form, upload = _upload_of(content_type, name), content_type
    plan = Plan(
        form=form,
        is_bypass=_is_bypass(head),
        coding=_coding_of(head),
        name=name,
        version=version,
        upload=upload,
        query=head.query if upload else b"",
        credential=credential_of(head.headers),
    )
    accept = head.headers.get(b"accept", b"*/*")
    if accept == b"*/*" or (written := format_of(accept)) is None:
        return plan
    return plan._replace(door=_predict_door(plan, written), may_stream=True)


def _upload_of(content_type: bytes, name: str | None) -> Form:
    """Return the form of a body that holds files."""
    if not is_upload(content_type):
        raise WrongMediaType(
            "content-type must be application/json or application/msgpack; at the URL of a model "
            "also multipart/form-data, or the type of a file, such as image/png"
        )
    if name is None:
        raise WrongMediaType("send files to the URL of a model: /models/NAME/predict")
    return "raw"


def _make_door_plan(head: Head, door: Door) -> Plan:
    """Return the plan of a request that has a door; its content type is not checked."""
    coding: Coding = ""
    if head.method == b"HEAD":  # its answer has no body, and a door's has one
        _check_method(head)
    try:
        _check_method(head)
        coding = _coding_of(head)
    except RequestError as error:
        door = RefusingDoor(door, error)
    return Plan(
        form=door.form,
        is_bypass=_is_bypass(head),
        coding=coding,
        door=door,
        may_stream=isinstance(door, GenerateDoor | CompletionsDoor),
        credential=credential_of(head.headers),
    )


def credential_of(headers: Mapping[bytes, bytes]) -> bytes:
    """Return the header that tells who asks; empty if there is none."""
    return headers.get(b"x-api-key") or headers.get(b"authorization", b"")


def who_of(head: Head, sticky_header: bytes) -> Who:
    """Return what the headers say of who asks, beside the credential; not the trace, since a plan
    is used again for requests of other traces.
    """
    named = head.headers.get(sticky_header, b"") if sticky_header else b""
    chain = head.headers.get(CHAIN_HEADER, b"")
    if not (named or chain):
        return UNKNOWN
    return Who(header=named.decode("latin-1"), chain=chain.decode("latin-1"))


def read_body(plan: Plan, body: bytes | bytearray, max_body_bytes: int) -> Ask:
    """Return what a request asks; ``max_body_bytes``: limit of its body after decompression.

    Raises:
        RequestError: The request is refused because of its body.
    """
    if plan.coding:
        body = inflate(body, max_bytes=max_body_bytes, coding=plan.coding)
    if plan.door is not None:
        return plan.door.read(body)
    name, version = plan.name, plan.version
    if plan.upload and name is not None:
        return read_upload(body, plan.upload, name=name, version=version, query=plan.query)
    ask = read_ask(body, plan.form, name=name, version=version)
    if len(body) - len(memoryview(ask.input_data)) > SMALL_BYTES:
        # Otherwise a small slice, the input, would keep the whole body alive.
        ask.input_data = msgspec.Raw(bytes(ask.input_data))
    return ask


def traced(plan: Plan, line: bytes | None) -> Plan:
    """Note the trace of a request, whose ``traceparent`` is this line, for the model that passes it
    on.
    """
    if line is None or plan.who.since:  # that has its own span as the parent already
        return plan
    trace = trace_in(line)
    return plan._replace(who=plan.who._replace(trace=trace)) if trace else plan


def trace_in(line: bytes) -> str:
    """Return the value of a line ``traceparent: …``."""
    return line.partition(b":")[2][:LONGEST_TRACE].decode("latin-1").strip()


def _check_method(head: Head) -> None:
    if head.method != b"POST":
        raise MethodNotAllowed(f"{head.method.decode('ascii', 'replace')} is not allowed; POST is")


def _coding_of(head: Head) -> Coding:
    coding = _CODINGS.get(head.headers.get(b"content-encoding", b"identity").lower())
    if coding is None:
        raise WrongMediaType("content-encoding must be gzip or deflate, or none")
    return coding


def _is_bypass(head: Head) -> bool:
    return b"no-cache" in head.headers.get(b"cache-control", b"").lower()
