"""The door of ``ModelInfer`` and ``ModelStreamInfer``: see ``gateway/door.py``.

What HTTP has as header lines is gRPC's metadata: a head is lines here too, of an error
``grpc-status`` among them, and ``inference.py`` hands them on.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.message import DecodeError

from modelyard.core.deadline import LONGEST_TIMEOUT_S
from modelyard.core.errors import Malformed, RequestError
from modelyard.core.messages import Form
from modelyard.core.names import Target
from modelyard.core.v2 import unpack
from modelyard.dispatch.dispatch import Ask
from modelyard.dispatch.entry import Entry
from modelyard.gateway.answer import sentence_of
from modelyard.gateway.door import Heard, Told
from modelyard.gateway.problems import problem_of
from modelyard.gateway.v2 import check_tensors, read_parameters
from modelyard.grpc.messages import message_class
from modelyard.grpc.status import STATUS
from modelyard.grpc.streaming import ASKED_BY, PieceMessages
from modelyard.grpc.tensors import read_tensors, values_of, write_tensors

STATUS_LINE = "grpc-status"
SHORTEST_S = 0.001  # a deadline that has passed already is answered as one that passes now

InferRequest = message_class("ModelInferRequest")
InferResponse = message_class("ModelInferResponse")
StreamResponse = message_class("ModelStreamInferResponse")


class GrpcDoor:
    """Translates one inference.

    Args:
        time_left_s: Until the client's own deadline; None if it has none.
        is_streamed: Whether it is one message of a stream.
    """

    form: Form = "v2"

    def __init__(self, *, time_left_s: float | None, is_streamed: bool) -> None:
        self._time_left_s = time_left_s
        self._is_streamed = is_streamed
        self._is_raw = True
        self._id = ""
        self._request: Any = None
        self._damage = ""

    def open(self, body: bytes) -> None:
        """Take the ``ModelInferRequest``, before anything else is asked."""
        try:
            self._request = InferRequest.FromString(body)  # of raw tensors no element is looked at
        except DecodeError as error:
            self._damage = str(error)

    def is_quick(self, body_bytes: int) -> bool:
        """See ``Door``: tensors that are not raw take long to read."""
        return self._request is None or bool(self._request.raw_input_contents)

    def read(self, body: bytes | bytearray) -> Heard:
        """See ``Door``."""
        request = self._request
        if request is None:
            raise Malformed(f"this is no ModelInferRequest: {self._damage}")
        self._id = request.id
        self._is_raw = bool(request.raw_input_contents) or not request.inputs
        parameters = values_of(request.parameters)
        timeout_s, priority = read_parameters(parameters)
        is_in_pieces = self._is_streamed and parameters.get(ASKED_BY)
        if self._time_left_s is not None:
            # A client's deadline may be any: only what the request itself asks for is checked.
            left_s = min(max(self._time_left_s, SHORTEST_S), LONGEST_TIMEOUT_S)
            timeout_s = min(timeout_s or left_s, left_s)
        return Heard(
            request.model_name,
            read_tensors(request),
            request.model_version or None,
            timeout_s,
            priority,
            written=PieceMessages(request.id) if is_in_pieces else None,
        )

    def check(self, entry: Entry, ask: Ask) -> None:
        """See ``Door``. A model without pieces answers a stream with one response."""
        check_tensors(entry)
        if isinstance(ask, Heard) and entry.gives_no_pieces:
            ask.written = None

    def answer(
        self, target: Target, output: bytes, echo: bytes, *, told: Told
    ) -> tuple[bytes, bytes]:
        """See ``Door``."""
        head = f"x-request-id: {told.request_id}\r\nx-cache: {told.cache_use}\r\n"
        response = InferResponse(model_name=target.name, model_version=target.version, id=self._id)
        write_tensors(response, *unpack(output), is_raw=self._is_raw)
        if self._is_streamed:
            response.parameters["triton_final_response"].bool_param = True
            response = StreamResponse(infer_response=response)
        return head.encode(), response.SerializeToString()

    def problem(self, error: RequestError, request_id: str) -> tuple[bytes, bytes]:
        """See ``Door``: the body is the sentence, or in a stream a message."""
        sentence = sentence_of(problem_of(error, request_id=request_id), input_name="instances")
        if self._is_streamed:
            message = StreamResponse(error_message=sentence)
            message.infer_response.id = self._id
            return b"", message.SerializeToString()
        lines = {
            STATUS_LINE: STATUS[error.code].name,
            "x-request-id": request_id,
            "x-error-code": error.code,
            **error.headers,
        }
        if error.retry_after_s is not None:
            lines["retry-after"] = str(error.retry_after_s)
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        return head.encode(), sentence.encode()
