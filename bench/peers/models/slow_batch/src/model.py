"""Waits 20 ms for a batch whatever it holds."""

from bench.peers.subjects import load_subject
from modelyard import Model


class SlowBatch(Model):
    """Answers with what it was asked."""

    def load(self) -> None:
        self.subject = load_subject("slow_batch")

    def predict(self, instances: list[list[float]]) -> list[list[float]]:
        return self.subject(instances)
