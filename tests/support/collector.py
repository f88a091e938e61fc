"""A collector of traces: it takes OTLP over HTTP, as OpenTelemetry's own does."""

from __future__ import annotations

import gzip
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, NamedTuple, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.server import wait_until


class Seen(NamedTuple):
    """One span as it arrived. Times are nanoseconds of Unix time."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    began: int
    ended: int
    attributes: dict[str, Any]
    links: list[str]
    error: str


class Collector:
    """Listens as long as the ``with`` block. It refuses the first ``refusals`` messages with 503.

    ``headers``: those of the messages that it has taken.
    """

    def __init__(self, *, refusals: int = 0) -> None:
        self.spans: list[Seen] = []
        self.headers: list[dict[str, str]] = []
        take, headers, refused = self._take, self.headers, iter(range(refusals))

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                is_ours = self.path == "/v1/traces"
                status = 404 if not is_ours else 200 if next(refused, None) is None else 503
                if status == 200:
                    headers.append({name.lower(): value for name, value in self.headers.items()})
                    take(ExportTraceServiceRequest.FromString(body))
                self.send_response(status)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def of(self, trace_id: str) -> list[Seen]:
        """The spans of a trace so far, in the order in which they began."""
        return sorted((s for s in self.spans if s.trace_id == trace_id), key=lambda s: s.began)

    def wait_for(self, trace_id: str, *names: str) -> dict[str, Seen]:
        """Wait until a trace has these spans, by the first words of their names; gives the last
        that began of each.
        """

        def found() -> dict[str, Seen]:
            spans = {span.name.split()[0] + _side(span): span for span in self.of(trace_id)}
            return spans if spans.keys() >= set(names) else {}

        spans: dict[str, Seen] = wait_until(found, what=f"{names} of {trace_id}")
        return spans

    def _take(self, request: ExportTraceServiceRequest) -> None:
        for resource in request.resource_spans:
            told = {a.key: a.value.string_value for a in resource.resource.attributes}
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.spans.append(
                        Seen(
                            told["service.name"],
                            span.name,
                            span.trace_id.hex(),
                            span.span_id.hex(),
                            span.parent_span_id.hex(),
                            span.start_time_unix_nano,
                            span.end_time_unix_nano,
                            {a.key: _value(a.value) for a in span.attributes},
                            [link.span_id.hex() for link in span.links],
                            span.status.message if span.status.code == 2 else "",
                        )
                    )


def _side(span: Seen) -> str:
    """Tell the gateway's ``predict MODEL`` from the model's ``predict``."""
    return "!" if span.name.startswith("predict ") else ""


def _value(value: Any) -> Any:
    return getattr(value, value.WhichOneof("value"))
