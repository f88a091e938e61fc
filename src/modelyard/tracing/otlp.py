"""Spans as OTLP: their bytes, and the collector that they are posted to.

https://opentelemetry.io/docs/specs/otlp/
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterable, Mapping

import requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1 import trace_pb2
from opentelemetry.util.re import parse_env_headers

from modelyard.core.spans import Span, Value

_USUAL_URL = "http://localhost:4318"
_PATH = "/v1/traces"
_KINDS = {
    "internal": trace_pb2.Span.SPAN_KIND_INTERNAL,
    "server": trace_pb2.Span.SPAN_KIND_SERVER,
    "producer": trace_pb2.Span.SPAN_KIND_PRODUCER,
    "consumer": trace_pb2.Span.SPAN_KIND_CONSUMER,
}
_PASSING = frozenset((429, 502, 503, 504))  # statuses after which a client sends again


def encode(spans: Iterable[Span], *, resource: Mapping[str, Value], scope: str) -> bytes:
    """Return the message that says all of these spans.

    ``resource``: what is known of the process. ``scope``: what made the spans.
    """
    # OpenTelemetry's own encoder takes five times as long. Adding in place avoids a copy of each.
    message = ExportTraceServiceRequest()
    told = message.resource_spans.add()
    _put(resource, told.resource)
    of_scope = told.scope_spans.add()
    of_scope.scope.name = scope
    for span in spans:
        one = of_scope.spans.add(
            trace_id=bytes.fromhex(span.context.trace_id),
            span_id=bytes.fromhex(span.context.span_id),
            parent_span_id=bytes.fromhex(span.parent_id),
            name=span.name,
            kind=_KINDS[span.kind],
            start_time_unix_nano=int(span.began * 1e9),
            end_time_unix_nano=int(span.ended * 1e9),
        )
        _put(span.attributes, one)
        for link in span.links:
            one.links.add(
                trace_id=bytes.fromhex(link.trace_id), span_id=bytes.fromhex(link.span_id)
            )
        if span.error:
            one.status.code = trace_pb2.Status.STATUS_CODE_ERROR
            # A model's own words may be no text that can be encoded.
            one.status.message = span.error.encode("utf-8", "replace").decode()
    return message.SerializeToString()


class CollectorError(Exception):
    """A collector has not taken spans.

    Attributes:
        is_passing: Whether they may be sent again.
    """

    def __init__(self, message: str, *, is_passing: bool) -> None:
        super().__init__(message)
        self.is_passing = is_passing


class Collector:
    """Where spans are posted to, by OTLP over HTTP.

    Args:
        url: Without ``/v1/traces``; empty for what OpenTelemetry's variables say, which also give
            headers, certificates, compression and the time-out.
    """

    def __init__(self, url: str) -> None:
        if url or not (own := os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "")):
            base = url or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "") or _USUAL_URL
            own = base.rstrip("/") + _PATH
        self.url = own
        self._timeout_s = float(_variable("TIMEOUT") or 10)
        self._coding = _variable("COMPRESSION")
        self._session = requests.Session()
        self._session.headers["content-type"] = "application/x-protobuf"
        self._session.headers.update(parse_env_headers(_variable("HEADERS"), liberal=True))
        if self._coding in {"gzip", "deflate"}:
            self._session.headers["content-encoding"] = self._coding
        self._session.verify = _variable("CERTIFICATE") or True
        certificate, key = _variable("CLIENT_CERTIFICATE"), _variable("CLIENT_KEY")
        if certificate:
            self._session.cert = (certificate, key) if key else certificate

    def post(self, message: bytes) -> None:
        """Send a message; blocks.

        Raises:
            CollectorError: It was not taken.
        """
        if self._coding == "gzip":
            message = gzip.compress(message)
        elif self._coding == "deflate":
            message = zlib.compress(message)
        try:
            answer = self._session.post(
                self.url, message, timeout=self._timeout_s, allow_redirects=False
            )
        except requests.RequestException as error:
            raise CollectorError(str(error), is_passing=True) from None
        if answer.status_code >= 300:
            raise CollectorError(
                f"status {answer.status_code}", is_passing=answer.status_code in _PASSING
            )


def _variable(name: str) -> str:
    return os.environ.get(f"OTEL_EXPORTER_OTLP_TRACES_{name}") or os.environ.get(
        f"OTEL_EXPORTER_OTLP_{name}", ""
    )


def _put(attributes: Mapping[str, Value], within: trace_pb2.Span | Resource) -> None:
    add = within.attributes.add
    for key, value in attributes.items():
        told: AnyValue = add(key=key).value
        if isinstance(value, str):
            told.string_value = value
        elif isinstance(value, bool):
            told.bool_value = value
        elif isinstance(value, int):
            told.int_value = value
        else:
            told.double_value = value
