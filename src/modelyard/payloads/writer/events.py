"""Sends records as CloudEvents over HTTP, as KServe's logger does: two for each request, in binary
mode, with the id of the request.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md
"""

from __future__ import annotations

import urllib.error
import urllib.request
from urllib.parse import quote

from modelyard.payloads.config import Config
from modelyard.payloads.writer.chunks import Chunk
from modelyard.payloads.writer.records import Record

REQUEST = "org.kubeflow.serving.inference.request"
RESPONSE = "org.kubeflow.serving.inference.response"

_LETTERS = "".join(map(chr, range(0x21, 0x7F))).replace('"', "").replace("%", "")


class Events:
    """A sink that sends.

    Args:
        config: Where to, and with which headers.
    """

    def __init__(self, config: Config) -> None:
        self._config = config

    def keep(self, chunk: Chunk) -> None:
        """Send the events of a chunk. What has been sent is no longer in it when one fails."""
        while chunk.records:
            record = chunk.records[0]
            request = b'{"instances":%b}' % bytes(record.request)
            if record.status == "ok":
                answer = b'{"predictions":%b}' % bytes(record.answer)
            else:
                answer = b'{"error":"%b"}' % record.status.encode()
            self._send(REQUEST, record, request)
            self._send(RESPONSE, record, answer)
            del chunk.records[0]

    def _send(self, kind: str, record: Record, body: bytes) -> None:
        attributes = {
            "specversion": "1.0",
            "type": kind,
            "source": "modelyard",
            "id": record.request_id,
            "time": record.time,
            "inferenceservicename": record.model,
            "namespace": self._config.namespace,
            "component": "predictor",
            "endpoint": "",
            "modelversion": record.version,
            "owner": record.owner,
            "status": record.status,
            "latencyseconds": f"{record.latency_s:.6f}",
        }
        headers = {f"ce-{name}": quote(value, safe=_LETTERS) for name, value in attributes.items()}
        sent = urllib.request.Request(  # noqa: S310 (the file says http or https)
            self._config.url,
            data=body,
            headers={"content-type": "application/json", **headers, **self._config.headers},
            method="POST",
        )
        with urllib.request.urlopen(sent, timeout=self._config.timeout_s) as answer:  # noqa: S310
            answer.read(1024)
