"""docs/from-a-notebook.md: every command works, in this order, and prints what the page says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from tests.docs.pages import write_files
from tests.docs.test_served_pages import DOCUMENTED, sessions
from tests.support.ports import free_port
from tests.support.server import Server, wait_until

PAGE = "from-a-notebook.md"
COUNTED = re.compile(r'^ *(\d+) (".*")$', re.MULTILINE)


def test_the_page_leads_from_a_notebook_to_a_canary_that_is_rolled_back(tmp_path: Path) -> None:
    write_files(PAGE, tmp_path)
    settings = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "MODELYARD_STATE_FOLDER": str(tmp_path / "state"),
        "MODELYARD_MODEL_CACHE_FOLDER": str(tmp_path / "cache"),
        "MODELYARD_PORT": str(free_port()),
    }
    (install, _), *typed = sessions(PAGE)
    assert install == "pip install 'modelyard[sklearn,registry]'"

    def printed_by(command: str) -> str:
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            cwd=tmp_path,
            env={**os.environ, **settings},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout

    with ExitStack() as serving:
        for command, expected in typed:
            program, verb, *rest = command.split()
            if (program, verb) == ("modelyard", "serve"):
                serving.close()
                server = serving.enter_context(Server(*map(Path, rest), settings=settings))
                wait_until(lambda s=server: s.http.get("/readyz").is_success, what="models")  # type: ignore[misc]
                settings["MODELYARD_PORT"] = server.url.rpartition(":")[2]
            elif program == "curl":
                here = command.replace(DOCUMENTED, server.url.removeprefix("http://"))

                def is_spread(here: str = here, expected: str = expected) -> bool:
                    found = {what: int(count) for count, what in COUNTED.findall(printed_by(here))}
                    shown = [what for _, what in COUNTED.findall(expected)]
                    return sorted(found) == shown and sum(found.values()) == 100

                wait_until(is_spread, what="both versions")
            else:
                printed = printed_by(command)
                assert not expected or printed == expected, command
