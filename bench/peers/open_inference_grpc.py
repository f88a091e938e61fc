"""Messages of the Open Inference Protocol V2 over gRPC, with raw tensors as Triton's client sends.

The classes of the messages are Modelyard's own; the bytes are the same for every system.
"""

from __future__ import annotations

from typing import Any

import grpc

from bench.grpcload import METHOD
from bench.peers.open_inference import INPUT, datatype_of, raw_tensor, read_raw, shape_of
from bench.peers.samples import is_close, samples
from bench.processes import ServerError
from modelyard.grpc.messages import message_class

WITHIN_S = 30


def request_message(model: str, instance: Any) -> bytes:
    """Give a request with one instance."""
    request = message_class("ModelInferRequest")(model_name=model)
    shape = [1, *shape_of(model)]
    request.inputs.add(name=INPUT, datatype=datatype_of(model), shape=shape)
    request.raw_input_contents.append(raw_tensor(model, instance))
    message: bytes = request.SerializeToString()
    return message


def read_answer(model: str, message: bytes) -> Any:
    """Give the prediction of an answer."""
    answer = message_class("ModelInferResponse").FromString(message)
    return read_raw(model, answer.raw_output_contents[0])


def checked_answer(name: str, address: str, model: str) -> bytes:
    """Give an answer of ``model``, after it answered all samples rightly.

    Raises:
        ServerError: It did not.
    """
    message = b""
    with grpc.insecure_channel(address) as channel:
        infer: Any = channel.unary_unary(METHOD)
        for instance, wanted in samples(model):
            asked = request_message(model, instance)
            try:
                message = infer(asked, timeout=WITHIN_S, wait_for_ready=True)
            except grpc.RpcError as error:
                raise ServerError(f"{name}: {model} by gRPC: {error}") from error
            if not is_close(given := read_answer(model, message), wanted):
                raise ServerError(f"{name}: {model} answers {str(given)[:200]} by gRPC")
    return message
