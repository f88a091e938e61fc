"""A real S3 server of a test's own: moto's, in a process of its own, on a free port."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import Any, Self

import fsspec
import httpx

from tests.support.bound import start
from tests.support.ports import free_port
from tests.support.server import PATIENCE_S, wait_until


class S3:
    """Runs as long as the ``with`` block; ``settings`` are those of processes that use it."""

    bucket = "models"

    def __enter__(self) -> Self:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.settings = {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "somebody",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_MAX_ATTEMPTS": "1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "MODELYARD_ARTEFACTS_URL": f"s3://{self.bucket}/registry",
        }
        self._process = start(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
        )
        wait_until(self._answers, what="the S3 server")
        assert httpx.put(f"{self.url}/{self.bucket}").is_success
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End it, and wait for that."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
        self._process.wait(PATIENCE_S)

    def objects(self) -> list[str]:
        """Return the keys of all objects."""
        text = httpx.get(f"{self.url}/{self.bucket}").text
        return [part.split("</Key>")[0] for part in text.split("<Key>")[1:]]

    def put(self, key: str, content: bytes | None) -> None:
        """Put an object there; None removes it."""
        if content is None:
            self._files().rm_file(f"{self.bucket}/{key}")
        else:
            self._files().pipe_file(f"{self.bucket}/{key}", content)

    def get(self, key: str) -> bytes:
        """Return the content of an object."""
        content: bytes = self._files().cat_file(f"{self.bucket}/{key}")
        return content

    def _files(self) -> Any:
        """Give the bucket as its owner sees it."""
        who = {
            "key": self.settings["AWS_ACCESS_KEY_ID"],
            "secret": self.settings["AWS_SECRET_ACCESS_KEY"],
        }
        return fsspec.filesystem("s3", endpoint_url=self.url, skip_instance_cache=True, **who)

    def _answers(self) -> bool:
        try:
            return httpx.get(self.url).is_success
        except httpx.TransportError:
            return False
