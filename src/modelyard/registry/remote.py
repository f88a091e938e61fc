"""The registry through a gateway: HTTP by the standard library, problems as errors of ours."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from typing import IO, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode

import msgspec

from modelyard.core.errors import Failure, ModelNotFound, Unavailable, from_failure
from modelyard.core.names import Target
from modelyard.core.routes import Snapshot
from modelyard.core.versions import Change, Contents, VersionDetails, VersionSummary
from modelyard.registry.errors import RegistryError
from modelyard.registry.interface import Collected, pieces_of

TIMEOUT_S = 60.0  # of silence
ROUTES_TIMEOUT_S = 5.0  # for what is asked twice a second
_NOT_FOUND = 404
T = TypeVar("T")


class _Listed(msgspec.Struct):
    versions: list[VersionSummary]


class _Audit(msgspec.Struct):
    changes: list[Change]


class _Was(msgspec.Struct):
    was: str


class _Problem(msgspec.Struct):
    code: str
    detail: str


class RemoteRegistry:
    """See ``interface.Registry``.

    Args:
        url: Of the gateway.
        key: That the gateway wants; empty for none.
    """

    def __init__(self, url: str, *, key: str) -> None:
        if not url.startswith(("http://", "https://")):
            raise RegistryError(f"{url}: expected http:// or https://")
        self._url = url.rstrip("/")
        self._headers = {"x-api-key": key} if key else {}

    def versions(self, name: str | None = None) -> list[VersionSummary]:
        """See ``Registry``."""
        path = "/registry/models" if name is None else _model(name)
        return self._ask("GET", path, _Listed).versions

    def find(self, name: str, reference: str) -> VersionDetails:
        """See ``Registry``."""
        return self._ask("GET", _version(name, reference), VersionDetails)

    def routes(self, *, after: int) -> Snapshot | None:
        """Return routes and aliases; None if their number is still ``after``."""
        path = f"/registry/routes?after={after}"
        with self._open("GET", path, timeout_s=ROUTES_TIMEOUT_S) as answer:
            content = self._read(answer)
        return self._decode(content, Snapshot) if content else None

    def missing(self, digests: Iterable[str]) -> list[str]:
        """See ``Registry``."""
        return [digest for digest in digests if not self._has(digest)]

    def send(self, digest: str, size: int, stream: IO[bytes]) -> None:
        """See ``Registry``."""
        headers = {"content-type": "application/octet-stream", "content-length": str(size)}
        with self._open("PUT", _blob(digest), body=stream, headers=headers):
            pass

    def push(self, target: Target, contents: Contents) -> VersionDetails:
        """See ``Registry``."""
        path = _version(target.name, target.version)
        try:
            return self._ask("PUT", path, VersionDetails, body=msgspec.json.encode(contents))
        except ModelNotFound as error:  # it need not be there
            raise RegistryError(
                f"{target.name} may not be pushed with this key: it lacks the scope "
                f"release:{target.name}"
            ) from error

    @contextmanager
    def fetch(self, version: VersionDetails, path: str) -> Iterator[Iterator[bytes]]:
        """See ``Registry``."""
        where = f"{_version(version.name, version.version)}/files/{quote(path)}"
        with self._open("GET", where) as answer:
            yield self._pieces(answer)

    def set_alias(self, target: Target, alias: str, *, why: str) -> str:
        """See ``Registry``."""
        body = msgspec.json.encode({"version": target.version, "why": why})
        return self._ask("PUT", _alias(target.name, alias), _Was, body=body).was

    def remove_alias(self, name: str, alias: str, *, why: str) -> None:
        """See ``Registry``."""
        with self._open("DELETE", f"{_alias(name, alias)}?{urlencode({'why': why})}"):
            pass

    def audit(self, name: str) -> list[Change]:
        """See ``Registry``."""
        return self._ask("GET", f"{_model(name)}/audit", _Audit).changes

    def collect(self, *, keep: int | None, is_dry: bool) -> Collected:
        """See ``Registry``."""
        body = msgspec.json.encode({"keep": keep, "is_dry": is_dry})
        return self._ask("POST", "/registry/collect", Collected, body=body)

    def _has(self, digest: str) -> bool:
        try:
            with self._open("HEAD", _blob(digest)):
                return True
        except _Absent:
            return False
        except _Silent:
            self._open("GET", _blob(digest)).close()  # which says why
            raise

    def _ask(self, method: str, path: str, kind: type[T], *, body: bytes | None = None) -> T:
        headers = {} if body is None else {"content-type": "application/json"}
        with self._open(method, path, body=body, headers=headers) as answer:
            return self._decode(self._read(answer), kind)

    def _read(self, answer: HTTPResponse) -> bytes:
        try:
            return answer.read()
        except (OSError, HTTPException) as error:
            raise self._breaking_off(error) from error

    def _decode(self, content: bytes, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(content, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RegistryError(
                f"the server at {self._url} answers as no gateway does: {error}"
            ) from error

    def _pieces(self, answer: HTTPResponse) -> Iterator[bytes]:
        pieces = pieces_of(answer)
        while True:
            try:
                piece = next(pieces)
            except StopIteration:
                return
            except (OSError, HTTPException) as error:
                raise self._breaking_off(error) from error
            yield piece

    def _open(
        self,
        method: str,
        path: str,
        *,
        body: bytes | IO[bytes] | None = None,
        headers: dict[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> HTTPResponse:
        """Ask, and return the answer, which is to be closed.

        Raises:
            RequestError: The answer is a problem document.
            Unavailable: The connection cannot be made, or breaks off.
        """
        request = urllib.request.Request(  # noqa: S310  (the scheme was checked)
            self._url + path, method=method, data=body, headers={**self._headers, **(headers or {})}
        )
        try:
            answer: HTTPResponse = urllib.request.urlopen(request, timeout=timeout_s)  # noqa: S310
            return answer
        except HTTPError as error:
            if method == "HEAD":
                raise (_Absent if error.code == _NOT_FOUND else _Silent)(str(error)) from error
            raise self._problem_in(error) from error
        except (URLError, OSError, HTTPException) as error:
            raise self._breaking_off(error) from error

    def _breaking_off(self, error: Exception) -> Unavailable:
        reason = " ".join(str(getattr(error, "reason", error)).split()) or type(error).__name__
        return Unavailable(f"the gateway at {self._url} cannot be asked: {reason}")

    def _problem_in(self, error: HTTPError) -> Exception:
        try:
            found = msgspec.json.decode(error.read(), type=_Problem)
        except (msgspec.DecodeError, UnicodeDecodeError, OSError, HTTPException):
            return RegistryError(f"{self._url} answers {error.code} {error.reason}")
        if found.code == "not_found":
            return RegistryError(f"the gateway at {self._url} has no registry, or not for this key")
        return from_failure(Failure(found.code, found.detail))


class _Silent(RegistryError):
    """The answer to HEAD is an error, without a word."""


class _Absent(_Silent):
    """The answer to HEAD is that it is not there."""


def _model(name: str) -> str:
    return f"/registry/models/{quote(name, safe='')}"


def _version(name: str, version: str) -> str:
    return f"{_model(name)}/versions/{quote(version, safe='')}"


def _alias(name: str, alias: str) -> str:
    return f"{_model(name)}/aliases/{quote(alias, safe='')}"


def _blob(digest: str) -> str:
    return f"/registry/blobs/{digest.replace(':', '/')}"
