"""What a test starts ends with the test run, even if pytest is killed and cannot clean up.

The kernel sees to it (``PR_SET_PDEATHSIG``), and it does so for the process that is started here,
not for the children of that one. What has children ends them when it dies itself: ours does, and
Erlang's virtual machine does, which RabbitMQ's start script is told to become.
"""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import Any

# To the kernel the parent is the thread that starts a process: this one stays to the end, while a
# test may start a broker again from a thread that is gone a second later.
_starter = ThreadPoolExecutor(1, "starter")


def start(command: list[str], **options: Any) -> subprocess.Popen[Any]:
    """Start a process, as ``Popen`` does, that the kernel kills as soon as ours is gone.

    A command that changes its rights, as ``unshare --user`` does, makes the kernel forget that, and
    has to ask for it again.
    """
    bound = ["setpriv", "--pdeathsig", "KILL", *command]
    return _starter.submit(lambda: subprocess.Popen(bound, **options)).result()
