"""Load on the three iris models: about one request a second and user, every answer checked.

    locust -f locustfile.py --host http://localhost:8000        a web page, on port 8089
    locust -f locustfile.py --headless --users 20 -t 60s …      a report; exits with 1 on failures
    locust -f locustfile.py,steps.py …                          users come in steps: see steps.py

It needs nothing beside Locust and itself, so that it runs from a ConfigMap too.
"""

from __future__ import annotations

import json
import random
from typing import Any

from locust import FastHttpUser, between, task

ROWS_PER_REQUEST = 10

# Flowers on whose species (the key) all three models agree with the botanist.
ROWS_BY_SPECIES = {
    0: [[5.1, 3.5, 1.4, 0.2], [5.4, 3.9, 1.7, 0.4], [5.7, 4.4, 1.5, 0.4], [4.8, 3.0, 1.4, 0.3]],
    1: [[7.0, 3.2, 4.7, 1.4], [6.5, 2.8, 4.6, 1.5], [6.0, 2.2, 4.0, 1.0], [5.6, 3.0, 4.5, 1.5]],
    2: [[6.3, 3.3, 6.0, 2.5], [5.7, 2.5, 5.0, 2.0], [7.7, 3.8, 6.7, 2.2], [6.2, 2.8, 4.8, 1.8]],
}
FLOWERS = [(row, species) for species, rows in ROWS_BY_SPECIES.items() for row in rows]


class Caller(FastHttpUser):
    """Asks the fast, the intermediate and the slow model in the ratio 3 : 2 : 1.

    The rows of a request are drawn anew each time, so that the cache knows next to none of them.
    """

    wait_time = between(0.5, 1.5)
    insecure = False  # certificates are checked

    @task(3)
    def ask_fast(self) -> None:
        self.ask("fast_iris_model")

    @task(2)
    def ask_intermediate(self) -> None:
        self.ask("intermediate_iris_model")

    @task(1)
    def ask_slow(self) -> None:
        self.ask("slow_iris_model")

    def ask(self, model: str) -> None:
        """Ask one model; anything but the right answer is a failure."""
        flowers = random.choices(FLOWERS, k=ROWS_PER_REQUEST)
        body = {"model_name": model, "input_data": [row for row, _ in flowers]}
        with self.client.post("/predict", json=body, name=model, catch_response=True) as response:
            if response.status_code == 0:
                response.failure(f"no answer: {response.error}")
                return
            wrong = what_is_wrong(
                response.status_code,
                response.text or "",
                model=model,
                species=[species for _, species in flowers],
            )
            if wrong:
                response.failure(wrong)
            else:
                response.success()


def what_is_wrong(status: int, text: str, *, model: str, species: list[int]) -> str:
    """Say what is wrong with a response; an empty string if nothing is."""
    try:
        answer: Any = json.loads(text)
    except ValueError:
        return f"{status}: not JSON"
    if not isinstance(answer, dict):
        return f"{status}: not an object"
    if status != 200:
        return f"{status}: {answer.get('code')}"
    if answer.get("model_name") != model:
        return "another model's answer"
    if answer.get("prediction") != species:
        return "a wrong answer"
    return ""
