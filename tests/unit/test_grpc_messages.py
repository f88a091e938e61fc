"""gRPC's compiled messages and its table of statuses, beside what they are made from."""

from __future__ import annotations

from pathlib import Path

import grpc_tools.protoc  # type: ignore[import-untyped]
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc import StatusCode
from tritonclient.grpc import model_config_pb2, service_pb2

import modelyard.grpc
from modelyard.core.errors import BY_CODE
from modelyard.gateway.problems import STATUS as HTTP
from modelyard.grpc.messages import POOL, SERVICE
from modelyard.grpc.status import STATUS

FOLDER = Path(modelyard.grpc.__file__).parent


def compiled(path: Path) -> FileDescriptorSet:
    return FileDescriptorSet.FromString(path.read_bytes())


def test_the_descriptors_are_those_of_the_messages(tmp_path: Path) -> None:
    made = tmp_path / "made.binpb"
    arguments = [f"--proto_path={FOLDER}", f"--descriptor_set_out={made}", "open_inference.proto"]
    assert grpc_tools.protoc.main(["protoc", *arguments]) == 0
    assert compiled(made) == compiled(FOLDER / "open_inference.binpb"), "run `make descriptors`"


def test_names_numbers_and_types_are_those_of_tritons_messages() -> None:
    (ours,) = compiled(FOLDER / "open_inference.binpb").file
    theirs = dict(service_pb2.DESCRIPTOR.message_types_by_name)
    theirs |= model_config_pb2.DESCRIPTOR.message_types_by_name
    for name in [message.name for message in ours.message_type]:
        ours_of = POOL.FindMessageTypeByName(f"inference.{name}")
        pairs = [(ours_of, theirs[name])]
        pairs += [(n, theirs[name].nested_types_by_name[n.name]) for n in ours_of.nested_types]
        for our, their in pairs:
            for field in our.fields:
                other = their.fields_by_number[field.number]
                assert (field.name, field.type) == (other.name, other.type), name
                assert field.is_repeated == other.is_repeated, name
    service = POOL.FindServiceByName(SERVICE)
    for method in service.methods:
        other = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
        found = other.methods_by_name[method.name]
        assert method.input_type.name == found.input_type.name
        assert method.output_type.name == found.output_type.name
        assert method.client_streaming == found.client_streaming
        assert method.server_streaming == found.server_streaming


def test_every_code_has_a_status_in_both_wires() -> None:
    assert STATUS.keys() == HTTP.keys()
    assert STATUS.keys() >= BY_CODE.keys()
    for code, status in STATUS.items():
        is_ours = HTTP[code] >= 500 and HTTP[code] not in (503, 504)
        assert (status is StatusCode.INTERNAL) == is_ours, code
