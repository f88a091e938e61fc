"""The iris model of the comparison, as a Modelyard model."""

from typing import Annotated

from msgspec import Meta

from bench.peers.subjects import load_subject
from modelyard import Model

Row = Annotated[list[float], Meta(min_length=4, max_length=4)]


class Iris(Model):
    """Answers each row of four lengths with the index of its species."""

    example = [[5.1, 3.5, 1.4, 0.2]]

    def load(self) -> None:
        self.subject = load_subject("iris")

    def predict(self, instances: list[Row]) -> list[int]:
        return self.subject(instances)
