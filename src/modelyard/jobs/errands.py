"""Fetches inputs of jobs that are objects, and puts large results away: what a worker, or a server
with its models, does with an ``Errand`` (``core/objects.py``).

Path of a job: ``pool/specials.py`` calls ``fetch``, which hands the call back with its input; a
large outcome comes to ``put``, and the call is settled with the object that it is then. An input is
kept in a file without a name and mapped from there, so it takes no memory that could not be had
back.
"""

from __future__ import annotations

import asyncio
import logging
import mmap
import tempfile
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import sha256

import msgspec

from modelyard.core.call import Call, ErrandMixin
from modelyard.core.errors import ObjectLost, RequestError, Unavailable, as_request_error
from modelyard.core.objects import Errand, ObjectRef
from modelyard.core.v2 import unpack
from modelyard.jobs.bulk.interfaces import Place, PlaceAway
from modelyard.jobs.objects import PIECE_BYTES, write_object

AT_ONCE = 4
"""Inputs that are fetched and not answered, of all models of a process; others wait."""

PAUSES_S = (0.5, 2.0)  # between tries to put a result away, which it took long to make
_BINARY = b'"binary_data_size":'

log = logging.getLogger(__name__)


class Errands:
    """Does errands.

    Args:
        place: Has the objects.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._executor = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="errands")
        self._waiting: deque[tuple[ErrandMixin, Callable[[Call], None]]] = deque()
        self._fetched = 0

    def fetch(self, call: ErrandMixin, then: Callable[[Call], None]) -> None:
        """See ``pool.specials.Errands``."""
        self._waiting.append((call, then))
        self._fetch_next()

    def _fetch_next(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting and self._fetched < AT_ONCE:
            call, then = self._waiting.popleft()
            if call.is_settled:
                continue
            self._fetched += 1
            call.watch(self._on_settled)
            getting = loop.run_in_executor(self._executor, self._get, call.errand)
            getting.add_done_callback(partial(_on_fetched, call, then))

    def _on_settled(self, _: Call) -> None:
        self._fetched -= 1
        self._fetch_next()

    def put(self, call: ErrandMixin, outcome: bytes) -> None:
        """See ``pool.specials.Errands``."""
        loop = asyncio.get_running_loop()
        putting = loop.run_in_executor(self._executor, self._put, call, outcome)
        putting.add_done_callback(partial(_on_put, call))

    # In threads.

    def _get(self, errand: Errand) -> memoryview:
        """Return an input.

        Raises:
            ObjectLost: It is not there, or is another one.
            Unavailable: The place is away.
        """
        wanted = errand.input
        assert wanted is not None
        digest, size = sha256(), 0
        try:
            with self._place.open(wanted.name) as stream, tempfile.TemporaryFile() as file:
                while piece := stream.read(PIECE_BYTES):
                    size += len(piece)
                    if size > wanted.size:
                        break
                    digest.update(piece)
                    file.write(piece)
                file.flush()
                if size != wanted.size or digest.hexdigest() != wanted.digest:
                    raise ObjectLost("the job's input is damaged: it is not what was sent")
                return memoryview(mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ))
        except FileNotFoundError as error:
            raise ObjectLost("the job's input is not in the object store any more") from error
        except (PlaceAway, OSError) as error:
            raise Unavailable(f"the job's input cannot be fetched: {error}") from error

    def _put(self, call: ErrandMixin, outcome: bytes) -> ObjectRef:
        """Put a result away, and return what it is then. Tries it again before it gives up.

        Raises:
            Unavailable: The place is away.
        """
        for pause_s in PAUSES_S:
            try:
                return self._put_once(call, outcome)
            except PlaceAway as error:
                log.warning("result_not_put_away", extra={"id": call.request.id, "why": str(error)})
                time.sleep(pause_s)
        try:
            return self._put_once(call, outcome)
        except PlaceAway as error:
            raise Unavailable(f"the job's result cannot be put away: {error}") from error

    def _put_once(self, call: ErrandMixin, outcome: bytes) -> ObjectRef:
        errand, media_type, json_bytes = call.errand, call.errand.media_type, 0
        pieces = [errand.head, outcome, errand.tail]
        if call.request.form == "v2":
            outputs, tensors = unpack(outcome)
            pieces = [errand.head, outputs, errand.tail]
            if _BINARY in outputs:
                json_bytes = sum(map(len, pieces))
                media_type = "application/octet-stream"
                pieces.append(tensors)
        written = write_object(self._place, errand.output, pieces)
        return msgspec.structs.replace(written, media_type=media_type, json_bytes=json_bytes)


def _on_fetched(
    call: ErrandMixin, then: Callable[[Call], None], getting: asyncio.Future[memoryview]
) -> None:
    """Hand a call back with its input."""
    if call.is_settled:
        getting.cancelled() or getting.exception()
        return
    try:
        call.take_input(getting.result())
    except Exception as error:
        call.settle(_told(call, error))
        return
    then(call)


def _on_put(call: ErrandMixin, putting: asyncio.Future[ObjectRef]) -> None:
    try:
        call.settle(putting.result())
    except Exception as error:
        call.settle(_told(call, error))


def _told(call: Call, error: Exception) -> RequestError:
    see = "the log of the model's worker for this request id"
    return as_request_error(error, log, call.request.id, see=see)
