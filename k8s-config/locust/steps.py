"""Users in steps, to watch an autoscaler: give it to Locust beside ``locustfile.py``.

    locust -f locustfile.py,steps.py --headless --users 100 --run-time 20m --host …

During the first half of the run time users come in five equal steps, up to ``--users``. During the
second half only those of the first step stay: time for the autoscaler to come down again.
"""

from __future__ import annotations

import time

from locust import LoadTestShape

STEPS = 5
LONGEST_S = 20 * 60.0  # where no run time is given, as in the web page


def users_at(seconds: float, *, users: int, run_s: float) -> int | None:
    """Give how many users there are so long after the start; None once it is over."""
    if seconds >= run_s:
        return None
    step = 1 + int(STEPS * seconds / (run_s / 2)) if seconds < run_s / 2 else 1
    return -(-users * step // STEPS)


class Steps(LoadTestShape):
    """Reads ``--users`` and ``--run-time`` from the command line or the web page."""

    use_common_options = True

    def tick(self) -> tuple[int, float] | None:
        assert self.runner is not None
        options = self.runner.environment.parsed_options
        assert options is not None
        users = users_at(
            time.perf_counter() - self.start_time,
            users=options.num_users or 1,
            run_s=options.run_time or LONGEST_S,
        )
        return None if users is None else (users, float(users))
