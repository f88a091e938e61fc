"""The yardstick: a bare ASGI application on the same server as the gateway.

It reads the body and sends a constant of a real answer's size, so what Modelyard adds to a request
is the difference between the two.
"""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

ANSWER = b'{"model_name":"fast_iris_model","model_version":"1","prediction":[0]}'
HEADERS = [
    (b"content-type", b"application/json"),
    (b"content-length", b"%d" % len(ANSWER)),
]


async def app(scope: Message, receive: Receive, send: Send) -> None:
    """Answer every request alike."""
    assert scope["type"] == "http"  # the server is told to speak nothing else
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": ANSWER})


def main() -> None:
    """Serve until a signal says stop."""
    parser = argparse.ArgumentParser(prog="bench.echo")
    parser.add_argument("--port", type=int, required=True)
    # As in the gateway: whatever it switches off in uvicorn is off here too.
    uvicorn.run(
        app,
        port=parser.parse_args().port,
        http="httptools",
        loop="uvloop",
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
        backlog=2048,
    )


if __name__ == "__main__":
    main()
