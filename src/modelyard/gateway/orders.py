"""What the head of a request says of the job that is to be made of it.

``Prefer: respond-async`` (RFC 7240) with a prediction, or ``PUT /jobs/ID``, which names the job.
What else is said of a job stands in headers as well, so that it is the same for every form of a
body.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from modelyard.core.errors import Malformed
from modelyard.jobs.job import HIGHEST

LONGEST_URL = 2000
MOST_ATTEMPTS = 100
LONGEST_WAIT_S = 366 * 86_400

JOBS_PATH = b"/jobs/"
_ASYNC = re.compile(rb"(?:^|,)\s*respond-async\s*(?:[,;]|$)", re.IGNORECASE)
_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._~-]{0,127}")
_KEY = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\]){1,255})"|([!#-~]{1,255})')
_SECONDS = re.compile(rb"\d{1,9}(\.\d{1,6})?")


class Order(NamedTuple):
    """A job that is to be made.

    Attributes:
        job_id: The client's own; empty for none.
        idempotency_key: The client's; None for none.
        callback: Where its end is told; None for nowhere.
        priority: From -100 to 100: the highest goes first.
        delay_s: Not to be run before so many seconds.
        expires_s: Not to be begun after so many seconds; None for what the server allows.
        max_attempts: How often it may fail; None for what the server says.
    """

    job_id: str = ""
    idempotency_key: str | None = None
    callback: str | None = None
    priority: int = 0
    delay_s: float = 0.0
    expires_s: float | None = None
    max_attempts: int | None = None


def wants_job(prefer: bytes) -> bool:
    """Return whether a header ``Prefer`` asks for a job."""
    return _ASYNC.search(prefer) is not None


def order_of(headers: Mapping[bytes, bytes], job_id: str = "") -> Order:
    """Return the order in a head.

    Raises:
        Malformed: A header is not what it should be.
    """
    callback = headers.get(b"job-callback")
    return Order(
        job_id,
        _key_in(headers.get(b"idempotency-key")),
        None if callback is None else url_in(callback),
        _whole(headers, b"job-priority", -HIGHEST, HIGHEST) or 0,
        _seconds(headers, b"job-delay") or 0.0,
        _seconds(headers, b"job-expires"),
        _whole(headers, b"job-max-attempts", 1, MOST_ATTEMPTS),
    )


def job_id_of(path: bytes) -> str | None:
    """Return the id in the path of a job; None for another path.

    Raises:
        Malformed: No job is called so.
    """
    name = path.removeprefix(JOBS_PATH)
    if name == path or b"/" in name:
        return None
    if _ID.fullmatch(name) is None:
        raise Malformed(
            "a job's id begins with a letter or digit, and has up to 128 of these, '.', '_', '~' "
            "and '-'"
        )
    return name.decode("ascii")


def _key_in(header: bytes | None) -> str | None:
    """Return the key: a string of RFC 9651 in quotes, or, as many clients send it, bare."""
    if header is None:
        return None
    found = _KEY.fullmatch(header.decode("latin-1").strip())
    if found is None:
        raise Malformed("Idempotency-Key is up to 255 printable characters of ASCII in quotes")
    return re.sub(r"\\(.)", r"\1", found[1]) if found[1] is not None else found[2]


def url_in(header: bytes) -> str:
    """Return the URL in a ``Job-Callback``. Raises a Malformed if it cannot be one."""
    if len(header) > LONGEST_URL or not header.isascii():
        raise Malformed(f"Job-Callback is a URL of up to {LONGEST_URL} characters of ASCII")
    return header.decode("ascii")


def _seconds(headers: Mapping[bytes, bytes], name: bytes) -> float | None:
    if (said := headers.get(name)) is None:
        return None
    if _SECONDS.fullmatch(said) is None or float(said) > LONGEST_WAIT_S:
        raise Malformed(f"{_shown(name)} is a number of seconds, up to {LONGEST_WAIT_S}")
    return float(said)


def _whole(headers: Mapping[bytes, bytes], name: bytes, least: int, most: int) -> int | None:
    if (said := headers.get(name)) is None:
        return None
    if re.fullmatch(rb"-?\d{1,4}", said) is None or not least <= int(said) <= most:
        raise Malformed(f"{_shown(name)} is a whole number from {least} to {most}")
    return int(said)


def _shown(name: bytes) -> str:
    return name.decode().title()
