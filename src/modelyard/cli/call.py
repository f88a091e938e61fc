"""The command line's way to a gateway: the Python client, and its errors as sentences."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from modelyard.settings import API_KEY_VARIABLE
from modelyard.surroundings import read_api_key

if TYPE_CHECKING:
    from modelyard.client import Client, ModelyardError


class CallError(Exception):
    """The gateway is not there, or answered with a problem; the text is for the terminal."""


@contextmanager
def gateway_at(url: str) -> Iterator[Client]:
    """Give a client of the gateway at ``url``, within a block that does nothing but ask it.

    Raises:
        CallError: There is no answer, it is a problem document, or this cannot be asked.
    """
    from modelyard.client import Client, ModelyardError  # a command that asks nobody does without

    key = read_api_key()
    if not key.isascii():
        raise CallError(f"{API_KEY_VARIABLE} holds a character that no key has")
    try:
        with Client(url, api_key=key or None) as client:
            yield client
    except ModelyardError as error:
        raise CallError(" ".join(_describe(error, url).split())) from error
    except UnicodeError as error:
        raise CallError(f"this cannot be sent: {error}") from error
    except (ValueError, TypeError, OverflowError, RecursionError, ImportError) as error:
        # The last: a proxy of the environment, of a kind that needs a library that is not here.
        raise CallError(" ".join(str(error).split())) from error


def _describe(error: ModelyardError, url: str) -> str:
    from modelyard.client import ConnectionFailed, Unauthenticated, UnexpectedAnswer

    if isinstance(error, ConnectionFailed):
        return f"no gateway at {url}: {error.detail}; `modelyard serve` starts one"
    if isinstance(error, UnexpectedAnswer):
        return f"the server at {url} is not a Modelyard gateway: {error.__cause__ or error.detail}"
    what = error.code if error.status is None else f"{error.status} {error.code}"
    where = f" at {error.where}" if error.where else ""
    if isinstance(error, Unauthenticated):
        where = f" (commands take the key from {API_KEY_VARIABLE})"
    return f"{what}: {error.detail}{where}"
