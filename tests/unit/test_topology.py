from __future__ import annotations

from itertools import product

from modelyard.core.batch import Priority
from modelyard.core.names import Target
from modelyard.transports.amqp.topology import queue_name


def test_no_two_targets_share_a_queue() -> None:
    parts = ["a", "a.1", "a.1.2", "1", "1.2", "1.high", "high", "2.high"]
    priorities: tuple[Priority, ...] = ("high", "normal")
    names = [
        queue_name(Target(name, version), priority)
        for name, version, priority in product(parts, parts, priorities)
    ]
    assert len(set(names)) == len(names)
