"""Asks a gateway for real predictions: the example of every model that is up, or of one.

Where nothing could be asked nothing was shown, so that is a failure.
"""

import json
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

PATIENCE_S = 120
KEY = Path("/run/secrets/modelyard/api_key")  # where gateways want to know who asks


def call(url: str, path: str, body: object = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json", "cache-control": "no-cache"}
    if KEY.exists():
        headers["x-api-key"] = KEY.read_text().strip()
    request = urllib.request.Request(url + path, data=data, headers=headers)
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


def predict(url: str, name: str, version: str) -> bool:
    """Give whether it could be asked."""
    versions = call(url, f"/models/{name}")["versions"]
    example = next(one["example"] for one in versions if one["version"] == version)
    if example is None:
        print(f"{name}/{version}: it has no example to ask it")
        return False
    body = {"model_name": name, "model_version": version, "input_data": example}
    prediction = call(url, "/predict", body)["prediction"]
    assert len(prediction) == len(example), prediction
    print(f"{name}/{version}: {json.dumps(example)} -> {json.dumps(prediction)}")
    return True


def main(url: str, *target: str) -> None:
    call(url, "/readyz")
    targets = (
        [target]
        if target
        else [
            (model["name"], version["version"])
            for model in call(url, "/models")["models"]
            for version in model["versions"]
            if version["state"] == "ready"
        ]
    )
    if not targets:
        raise LookupError("no model is ready: install one")
    answered = sum(predict(url, name, version) for name, version in targets)
    if not answered:
        sys.exit("no model was asked: give its class an `example`")
    print(f"{answered} models answered")


if __name__ == "__main__":
    give_up = time.monotonic() + PATIENCE_S
    while True:
        try:
            main(*sys.argv[1:])
            break
        except (OSError, LookupError, StopIteration) as error:
            if time.monotonic() > give_up:
                raise
            print(f"not yet: {error!r}", flush=True)
            time.sleep(2)
