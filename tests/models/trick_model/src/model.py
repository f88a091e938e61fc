"""A model whose answers can be checked, and which can be told to misbehave."""

from __future__ import annotations

import ctypes
import os
import time
from pathlib import Path
from typing import ClassVar, Literal

import msgspec

from modelyard import Cancelled, Model


class Trick(msgspec.Struct, forbid_unknown_fields=True):
    """``act`` is done before ``nonce`` is answered; ``diary``: a file that tells of each run;
    to ``wait`` is to wait until there is a file beside it called ``….go``; to ``hang_up`` is to
    close what the runner has open, and to end a little later; to ``heed`` is to go on until it is
    cancelled.
    """

    nonce: int
    act: Literal[
        "answer", "exit", "hang", "hang_up", "raise", "heed", "hold_gil", "work", "short", "wait"
    ] = "answer"
    seconds: float = 0.0
    diary: str = ""


class TrickModel(Model):
    example: ClassVar = [{"nonce": 1}]

    def predict(self, instances: list[Trick]) -> list[int]:
        for trick in instances:
            if trick.diary:
                with Path(trick.diary).open("a", encoding="utf-8") as diary:
                    diary.write(f"{trick.nonce}\n")
            self.act(trick)
        answers = [trick.nonce * 3 + 1 for trick in instances]
        return answers[:-1] if any(trick.act == "short" for trick in instances) else answers

    def act(self, trick: Trick) -> None:
        if trick.act == "exit":
            os._exit(7)
        elif trick.act == "hang_up":
            os.closerange(3, 256)
            time.sleep(trick.seconds)
            os._exit(7)
        elif trick.act == "hang":
            while True:
                time.sleep(1)
        elif trick.act == "raise":
            raise ValueError(f"nonce {trick.nonce} told me to")
        elif trick.act == "hold_gil":
            # PyDLL calls C without releasing the interpreter's lock.
            ctypes.PyDLL(None).usleep(int(trick.seconds * 1e6))
        elif trick.act == "wait":
            while not Path(f"{trick.diary}.go").exists():
                self.progress(trick.seconds, "waiting")
                time.sleep(0.01)
        elif trick.act == "heed":
            while not self.is_cancelled():
                self.progress(trick.seconds, "heeding")
                time.sleep(0.01)
            Path(f"{trick.diary}.heeded").touch()
            raise Cancelled
        elif trick.act == "work":
            until = time.monotonic() + trick.seconds
            while time.monotonic() < until:
                pass
