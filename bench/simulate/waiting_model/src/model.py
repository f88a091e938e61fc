"""A model that waits: its service time is known, and none of it is processor time."""

import time
from typing import ClassVar

from modelyard import Model

WAIT_S = 0.05


class Waiting(Model):
    """Answers each number with itself."""

    example: ClassVar = [1]

    def predict(self, instances: list[int]) -> list[int]:
        time.sleep(WAIT_S)
        return instances
