"""The only table from codes of errors to gRPC's statuses; HTTP's are in ``gateway/problems.py``."""

from __future__ import annotations

from grpc import StatusCode

STATUS: dict[str, StatusCode] = {
    "malformed": StatusCode.INVALID_ARGUMENT,
    "unauthenticated": StatusCode.UNAUTHENTICATED,
    "forbidden": StatusCode.PERMISSION_DENIED,
    "rate_limited": StatusCode.RESOURCE_EXHAUSTED,
    "model_not_found": StatusCode.NOT_FOUND,
    "version_not_found": StatusCode.NOT_FOUND,
    "job_not_found": StatusCode.NOT_FOUND,
    "not_found": StatusCode.NOT_FOUND,
    "method_not_allowed": StatusCode.UNIMPLEMENTED,
    "conflict": StatusCode.ALREADY_EXISTS,
    "too_slow": StatusCode.DEADLINE_EXCEEDED,
    "too_large": StatusCode.RESOURCE_EXHAUSTED,  # as gRPC itself says of large messages
    "wrong_media_type": StatusCode.INVALID_ARGUMENT,
    "not_acceptable": StatusCode.UNIMPLEMENTED,
    "invalid_input": StatusCode.INVALID_ARGUMENT,
    "headers_too_large": StatusCode.RESOURCE_EXHAUSTED,
    "internal": StatusCode.INTERNAL,
    "model_failed": StatusCode.INTERNAL,
    "model_crashed": StatusCode.INTERNAL,
    "object_lost": StatusCode.INTERNAL,
    "stream_broken": StatusCode.INTERNAL,
    "unavailable": StatusCode.UNAVAILABLE,
    "model_not_ready": StatusCode.UNAVAILABLE,
    "overloaded": StatusCode.UNAVAILABLE,
    "shutting_down": StatusCode.UNAVAILABLE,
    "client_gone": StatusCode.CANCELLED,  # no client receives it
    "cancelled": StatusCode.CANCELLED,  # nor this
    "deadline_exceeded": StatusCode.DEADLINE_EXCEEDED,
    "calls_too_deep": StatusCode.INTERNAL,
}
