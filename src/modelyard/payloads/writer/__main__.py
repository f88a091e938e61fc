"""``python -m modelyard.payloads.writer``: read what a gateway hands over, and keep it."""

from __future__ import annotations

import argparse
import os
import select
import socket
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING

import msgspec
from setproctitle import setproctitle

from modelyard.payloads.config import Config
from modelyard.payloads.frames import Begin, Brought, Handed, Report, add_frame, take_frames
from modelyard.payloads.writer.chunks import Chunks
from modelyard.payloads.writer.keeping import Keeper, Sink
from modelyard.payloads.writer.records import Recorder

if TYPE_CHECKING:
    from modelyard.payloads.writer.drift import Drift

READ_BYTES = 256 * 1024
TICK_S = 0.2
END_S = 5.0

_to_begin = msgspec.msgpack.Decoder(Begin)
_to_message: msgspec.msgpack.Decoder[Handed | Brought] = msgspec.msgpack.Decoder(Handed | Brought)


def main() -> None:
    """Keep what comes from the socket until it closes."""
    parser = argparse.ArgumentParser(prog="modelyard.payloads.writer")
    parser.add_argument("--fd", type=int, required=True)
    arguments = parser.parse_args()
    setproctitle("modelyard: payload writer")
    channel = socket.socket(fileno=arguments.fd)
    channel.set_inheritable(False)
    Writer(channel).run()
    os._exit(0)  # a thread may hang in the sink


class Writer:
    """Reads from the gateway's socket.

    Args:
        channel: The socket.
    """

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._received = bytearray()
        self._dropped: Counter[str] = Counter()
        self._reported = Report()
        self._most_bytes = 0
        self._drift: Drift | None = None

    def run(self) -> None:
        """Read until the gateway closes; then keep what there is, as far as that goes in time."""
        begin = self._begin()
        if begin is None:
            return
        config = begin.config
        most_bytes = self._most_bytes = int(config.memory_mb * 1_000_000)
        chunks = Chunks(
            chunk_s=config.chunk_s,
            chunk_bytes=int(config.chunk_mb * 1_000_000),
            most_bytes=most_bytes,
        )
        keeper = Keeper(lambda: open_sink(config, begin.name))
        recorder = Recorder(config)
        if config.references:
            self._open_drift(recorder)
        is_open = True
        self._take(recorder, chunks, keeper)  # what came with the first message
        while is_open:
            if keeper.size < most_bytes or self._drift is not None:  # which goes on
                is_open = self._read(recorder, chunks, keeper)
            else:  # nothing more is read, so the gateway sees that it has to drop
                time.sleep(TICK_S)
            for chunk in chunks.due(time.monotonic()):
                keeper.put(chunk)
            self._report(keeper)
        for chunk in chunks.all():
            keeper.put(chunk)
        keeper.finish(END_S)
        self._report(keeper)

    def _begin(self) -> Begin | None:
        while data := self._channel.recv(READ_BYTES):
            self._received += data
            for begin in take_frames(self._received, _to_begin):
                return begin
        return None

    def _read(self, recorder: Recorder, chunks: Chunks, keeper: Keeper) -> bool:
        """Read what has come; returns whether more may come."""
        if not select.select([self._channel], [], [], TICK_S)[0]:
            return True
        data = self._channel.recv(READ_BYTES)
        self._received += data
        self._take(recorder, chunks, keeper)
        return bool(data)

    def _take(self, recorder: Recorder, chunks: Chunks, keeper: Keeper) -> None:
        now = time.monotonic()
        for handed in take_frames(self._received, _to_message):
            if isinstance(handed, Brought):
                self._open_drift(recorder).bring(handed)
                continue
            is_full = keeper.size >= self._most_bytes
            try:
                record = recorder.record(handed)
            except Exception as error:  # a bug must not end the log
                print(f"payload writer: {type(error).__name__}", file=sys.stderr)  # noqa: T201
                self._dropped["failed"] += 1
                continue
            if is_full:
                self._dropped["full"] += 1
            elif (chunk := chunks.add(record, now)) is not None:
                keeper.put(chunk)

    def _open_drift(self, recorder: Recorder) -> Drift:
        """Return what compares requests with references. Its libraries are imported here."""
        from modelyard.payloads.writer.drift import Drift

        if self._drift is None:
            self._drift = recorder.watching = Drift(recorder.config)
        return self._drift

    def _report(self, keeper: Keeper) -> None:
        """Tell the gateway what has become of records, if that is new."""
        windows = [] if self._drift is None else self._drift.take()
        report = Report(keeper.kept, dict(self._dropped), keeper.trouble, windows)
        if report == self._reported:
            return
        frame = bytearray()
        add_frame(frame, report)
        try:
            self._channel.sendall(frame)
        except OSError:  # the gateway is gone
            return
        self._reported = report


def open_sink(config: Config, name: str) -> Sink:
    """Return where records are kept. The libraries are imported here, where they are used."""
    if config.sends_events:
        from modelyard.payloads.writer.events import Events

        return Events(config)
    from modelyard.payloads.writer.files import Files

    return Files(config, name=name)


if __name__ == "__main__":
    main()
