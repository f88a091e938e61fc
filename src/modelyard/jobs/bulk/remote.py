"""What lies at URLs: the place of files in an object store, and what callers name.

A caller's URL is used if it begins with one that a setting allows. So it can reach nothing that the
operator has not named: no file of this machine, no address in its network. Libraries: fsspec, and
that of each kind of URL.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, Any
from urllib.parse import urlsplit

import fsspec

from modelyard.core.errors import InvalidInput
from modelyard.jobs.bulk.interfaces import PlaceAway

SCHEMES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "https")
COPY_BYTES = 1 << 20
_MEDIA_TYPE = {"s3": "ResponseContentType", "gs": "response_type", "abfs": "content_type"}
"""What each library calls the media type that a signed URL is answered with."""
log = logging.getLogger(__name__)

_PLAIN = re.compile(r"[A-Za-z0-9._~/=+,@$&()-]*")
"""What the path of a caller's URL may have: nothing that has another spelling, or means more."""


class RemotePlace:
    """Files below a URL that fsspec knows. See ``Place``.

    Args:
        url: Where.

    Raises:
        ValueError: There is nothing that reaches it.
    """

    def __init__(self, url: str) -> None:
        try:
            self._fs: Any
            self._fs, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        except ImportError as error:
            raise ValueError(f"{url}: {error}") from error
        self._root = str(root).rstrip("/")
        self._has_warned = False

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        """See ``Place``. An object is there when all of it is."""
        with _telling(name):
            stream = self._fs.open(f"{self._root}/{name}", "wb")
        try:
            yield stream
        except BaseException:
            if hasattr(stream, "discard"):
                stream.discard()
            raise
        with _telling(name):
            stream.close()

    def open(self, name: str, offset: int = 0) -> IO[bytes]:
        """See ``Place``."""
        with _telling(name):
            stream: IO[bytes] = self._fs.open(f"{self._root}/{name}", "rb")
            stream.seek(offset)
            return stream

    def size(self, name: str) -> int | None:
        """See ``Place``."""
        with _telling(name):
            try:
                return int(self._fs.info(f"{self._root}/{name}")["size"])
            except FileNotFoundError:
                return None

    def link(self, name: str, *, expires_s: int, media_type: str) -> str | None:
        """See ``Place``. Google's and Azure's libraries sign only with an account's own key."""
        protocols = self._fs.protocol
        protocol = protocols if isinstance(protocols, str) else protocols[0]
        said = {_MEDIA_TYPE[protocol]: media_type} if protocol in _MEDIA_TYPE else {}
        try:
            return str(self._fs.sign(f"{self._root}/{name}", expiration=expires_s, **said))
        except Exception as error:
            if not (isinstance(error, NotImplementedError) or self._has_warned):
                log.warning("not_signed", extra={"why": f"{type(error).__name__}: {error}"})
                self._has_warned = True
            return None

    def remove(self, name: str) -> None:
        """See ``Place``."""
        with _telling(name):
            try:
                self._fs.rm(f"{self._root}/{name}", recursive=True)
            except FileNotFoundError:
                return

    def names(self, below: str) -> list[str]:
        """See ``Place``."""
        with _telling(below):
            try:
                found = self._fs.ls(f"{self._root}/{below}", detail=False)
            except FileNotFoundError:
                return []
        return sorted(str(path).rstrip("/").rpartition("/")[2] for path in found)


class AllowedUrls:
    """What callers name by URL. See ``Urls``.

    Args:
        inputs: What the URLs of inputs may begin with.
        outputs: What those of outputs may.

    Raises:
        ValueError: One is of a kind that is not allowed.
    """

    def __init__(self, inputs: Iterable[str], outputs: Iterable[str]) -> None:
        self._inputs = [_prefix(url) for url in inputs]
        self._outputs = [_prefix(url) for url in outputs]

    def check(self, url: str, *, is_output: bool) -> None:
        """See ``Urls``."""
        what = "output" if is_output else "input"
        allowed = self._outputs if is_output else self._inputs
        scheme, _, rest = url.partition("://")
        is_plain = _PLAIN.fullmatch(rest) is not None
        if not is_plain or any(part in (".", "..", "") for part in rest.split("/")[1:]):
            raise InvalidInput(
                f"the {what}'s URL is not taken as it is written: a plain path is, without '..', "
                "'%', '?', '#' and ':'"
            )
        if scheme not in SCHEMES or not any(url.startswith(prefix) for prefix in allowed):
            raise InvalidInput(
                f"this server uses no such URL as {what}; bulk_{what}_urls says which it does"
            )

    def open(self, url: str) -> IO[bytes]:
        """See ``Urls``."""
        self.check(url, is_output=False)
        with _telling(url):
            stream: IO[bytes] = _fs_of(url).open(url, "rb")
            return stream

    def size(self, url: str) -> int | None:
        """See ``Urls``."""
        self.check(url, is_output=False)
        with _telling(url):
            found = _fs_of(url).info(url).get("size")
        return None if found is None else int(found)

    def put(self, url: str, stream: IO[bytes]) -> None:
        """See ``Urls``."""
        self.check(url, is_output=True)
        with _telling(url), _fs_of(url).open(url, "wb") as target:
            while piece := stream.read(COPY_BYTES):
                target.write(piece)


def _fs_of(url: str) -> Any:
    """Return what reaches a URL. It follows no redirect: that could lead anywhere."""
    scheme = url.partition("://")[0]
    more = {"allow_redirects": False} if scheme == "https" else {}
    return fsspec.filesystem(scheme, use_listings_cache=False, **more)


def _prefix(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES or not parts.netloc or "@" in parts.netloc:
        raise ValueError(f"{url} is no URL of {', '.join(SCHEMES)}")
    return url if url.endswith("/") else f"{url}/"


@contextmanager
def _telling(what: str) -> Iterator[None]:
    """Say in a sentence what the place says: each kind has errors of its own."""
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:
        text = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise PlaceAway(f"{what}: {text}") from error
