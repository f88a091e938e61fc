"""Load: one run of wrk, told what to send by a Lua script, and what it saw."""

from __future__ import annotations

import json
import random
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

JSON = {"Content-Type": "application/json"}

# Where a body has this, each request gets digits of its own. As long as they are, so that the
# length of the body is known before.
MARK = "#fifteendigits#"
_DIGITS = len(MARK)

# An answer slower than this counts as a socket error (wrk's "timeout").
ANSWER_WITHIN_S = 10

_SCRIPT = """\
wrk.method = "POST"
%(headers)s
local file = io.open("%(body_file)s", "rb")
wrk.body = file:read("*a")
file:close()
unexpected, sample = 0, ""
local threads = {}
function setup(thread) threads[#threads + 1] = thread end
%(hooks)s
function done(summary, latency, requests)
  local errors = summary.errors
  local wrong, example = errors.status, ""
  for _, thread in ipairs(threads) do
    wrong = math.max(wrong, thread:get("unexpected"))
    example = thread:get("sample")
  end
  io.write(string.format(
    '\\nFIGURES {"answers": %%d, "duration_s": %%f, "p50_ms": %%f, "p99_ms": %%f, "max_ms": %%f, '
      .. '"unexpected": %%d, "socket_errors": %%d, "client_cpu_s": %%f}\\nSAMPLE %%s\\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3,
    latency:percentile(99) / 1e3, latency.max / 1e3, wrong,
    errors.connect + errors.read + errors.write + errors.timeout,
    os.clock(), example))
end
"""

_CHECK = """\
function response(status, headers, body)
  if status ~= 200 or body ~= [==[%s]==] then
    unexpected = unexpected + 1
    if sample == "" then sample = status .. " " .. body end
  end
end
"""

# Requests that differ in nothing but digits. All that is equal is put together once: what is left
# costs the client less than a microsecond a request.
_VARY = """\
local parts, number = {}, %(first)d
function init()
  local text, start = wrk.format(), 1
  repeat
    local first, last = text:find("%(mark)s", start, true)
    parts[#parts + 1] = text:sub(start, (first or 0) - 1)
    start = (last or 0) + 1
  until not first
end
function request()
  number = number + 1
  return table.concat(parts, string.format("%%0%(digits)dd", number))
end
"""

# Uneven, so that the connections do not march in step.
_PAUSE = "function delay() return math.random(%d, %d) end\n"


class LoadError(Exception):
    """wrk did not run, or said nothing that can be read."""


class Seen(NamedTuple):
    """What one run saw. Latencies are from the last byte written to the whole answer read.

    ``unexpected`` are answers with a status of 400 or more; with ``expected`` given, all answers
    but that one with status 200. ``sample`` is the first of those. ``client_cpu_s`` is what wrk
    itself used.
    """

    answers: int
    duration_s: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    unexpected: int
    socket_errors: int
    client_cpu_s: float
    sample: str = ""

    @property
    def rate(self) -> float:
        """Answers per second."""
        return self.answers / self.duration_s

    @property
    def failures(self) -> int:
        """Whatever should not have been."""
        return self.unexpected + self.socket_errors


def run_load(
    url: str,
    body: str | bytes,
    *,
    connections: int,
    seconds: float,
    path: str = "/predict",
    headers: Mapping[str, str] = JSON,
    pause_ms: int = 0,
    expected: str | None = None,
    has_equal_heads: bool = False,
) -> Seen:
    """Send ``body`` to ``path`` again and again over ``connections``, for ``seconds``.

    Each request has an id and a trace of its own, as those that come through a proxy have.

    Args:
        url: The server's address.
        body: The same every time, but for ``MARK`` in it.
        connections: How many requests are under way at any time.
        seconds: How long, in whole seconds (wrk knows no less).
        path: Where on the server.
        headers: Of the request.
        pause_ms: What each connection waits on average before its next request.
        expected: Compare every answer with this; costs the client some microseconds each.
        has_equal_heads: Send the same line and headers every time, without id and trace.

    Raises:
        LoadError: There is nothing to report.
    """
    hooks = _PAUSE % (pause_ms // 2, pause_ms + pause_ms // 2) if pause_ms else ""
    hooks += "" if expected is None else _CHECK % expected
    content = body.encode() if isinstance(body, str) else body
    if not has_equal_heads:
        headers = {**headers, **_traced()}
    if not has_equal_heads or MARK.encode() in content:
        first = random.randrange(10**6) * 10**8
        hooks += _VARY % {"mark": MARK, "first": first, "digits": _DIGITS}
    with tempfile.TemporaryDirectory() as folder:
        script, body_file = Path(folder, "load.lua"), Path(folder, "body")
        body_file.write_bytes(content)
        lines = "\n".join(f'wrk.headers["{name}"] = "{text}"' for name, text in headers.items())
        texts = {"headers": lines, "body_file": body_file, "hooks": hooks}
        script.write_text(_SCRIPT % texts, encoding="utf-8")
        command = ["wrk", "--threads", "1", "--connections", str(connections)]
        command += ["--duration", f"{round(seconds)}s", "--timeout", f"{ANSWER_WITHIN_S}s"]
        command += ["--script", str(script), f"{url}{path}"]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=seconds + 30, check=True
            )
        except FileNotFoundError as error:
            raise LoadError("wrk is not installed; `make bench` does that") from error
        except subprocess.SubprocessError as error:
            raise LoadError(f"wrk failed: {error}") from error
    return _read(done.stdout)


def _traced() -> dict[str, str]:
    """Give headers that differ in each request.

    A trace is that of W3C's Trace Context, level 1; its caller does not record it, as with most.
    """
    mine = f"{random.getrandbits(64):016x}"
    return {"x-request-id": f"{mine}0{MARK}", "traceparent": f"00-{mine}0{MARK}-0{MARK}-00"}


def _read(output: str) -> Seen:
    _, found, figures = output.partition("\nFIGURES ")
    figures, _, sample = figures.partition("\nSAMPLE ")
    if not found:
        raise LoadError(f"wrk gave no figures:\n{output}")
    return Seen(**json.loads(figures), sample=sample.strip())
