"""The protocol's messages, from ``open_inference.proto``.

They live in a pool of their own: clients bring the same names into the default pool, which holds
each name once, and both may be used in one process.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2

SERVICE = "inference.GRPCInferenceService"

POOL = DescriptorPool()
POOL.AddSerializedFile(health_pb2.DESCRIPTOR.serialized_pb)
for _file in FileDescriptorSet.FromString(
    files(__package__).joinpath("open_inference.binpb").read_bytes()
).file:
    POOL.AddSerializedFile(_file.SerializeToString())


def message_class(name: str) -> Any:
    """Return the class of one of the protocol's messages."""
    return GetMessageClass(POOL.FindMessageTypeByName(f"inference.{name}"))


def fill(kind: Any, fields: dict[str, Any]) -> Message:
    """Return a message with these fields; those that it does not have are left out."""
    message: Message = ParseDict(fields, kind(), ignore_unknown_fields=True)
    return message
