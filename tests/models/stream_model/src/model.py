"""A model whose pieces can be checked, and which can be told to misbehave."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import ClassVar, Literal

import msgspec

from modelyard import InvalidInput, Model


class Ask(msgspec.Struct, forbid_unknown_fields=True):
    """``act`` is done after so many pieces; ``diary``: a file that tells what happened. With
    ``once`` a file of that name keeps the model from doing it again.
    """

    nonce: int
    pieces: int = 3
    pause_s: float = 0.0
    act: Literal["answer", "exit", "hang", "block", "raise", "refuse", "wrong", "cancel"] = "answer"
    after: int = 0
    diary: str = ""
    once: str = ""


class Piece(msgspec.Struct):
    """Piece ``number`` of the answer to ``nonce``."""

    nonce: int
    number: int


class StreamModel(Model):
    example: ClassVar = [{"nonce": 1}]

    def load(self) -> None:
        self.under_way = 0

    async def predict(self, instances: list[Ask]) -> list[list[int]]:
        """Give for each its answer, and how many calls are under way."""
        self.under_way += 1
        try:
            for ask in instances:
                note(ask, "begun")
                await self.act(ask)
                await asyncio.sleep(ask.pause_s)
            return [[ask.nonce * 3 + 1, self.under_way] for ask in instances]
        except asyncio.CancelledError:
            note(instances[0], "left")
            raise
        finally:
            self.under_way -= 1

    async def stream(self, instance: Ask) -> AsyncIterator[Piece]:
        note(instance, "begun")
        number = 0
        try:
            while number < instance.pieces:
                if number == instance.after:
                    await self.act(instance)
                await asyncio.sleep(instance.pause_s)
                if instance.act == "wrong" and number == instance.after:
                    yield "no piece"  # type: ignore[misc]
                yield Piece(instance.nonce, number)
                number += 1
        finally:
            note(instance, f"over {number}")

    async def act(self, ask: Ask) -> None:
        if ask.once and not is_first(Path(ask.once)):
            return
        if ask.act == "exit":
            os._exit(7)
        elif ask.act == "hang":
            await asyncio.sleep(3600)
        elif ask.act == "block":
            block()
        elif ask.act == "raise":
            raise ValueError(f"nonce {ask.nonce} told me to")
        elif ask.act == "cancel":
            waiting = asyncio.create_task(asyncio.sleep(3600))
            asyncio.get_running_loop().call_soon(waiting.cancel)
            await waiting
        elif ask.act == "refuse":
            raise InvalidInput(f"not {ask.nonce}")


def note(ask: Ask, what: str) -> None:
    """Tell the diary."""
    if ask.diary:
        with Path(ask.diary).open("a", encoding="utf-8") as diary:
            diary.write(f"{ask.nonce} {what}\n")


def is_first(path: Path) -> bool:
    """Return whether nobody has been here before."""
    if path.exists():
        return False
    path.touch()
    return True


def block() -> None:
    """Let nothing else run."""
    time.sleep(3600)
