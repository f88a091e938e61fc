"""The command line as people use it: what it prints, and what it says to mistakes."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from modelyard import __version__
from tests.e2e.conftest import TRICK
from tests.e2e.test_odd_models import write
from tests.support.bound import start
from tests.support.ports import free_port
from tests.support.proxy import Proxy
from tests.support.server import MODELYARD, ROOT, Server, wait_until

FAST = ROOT / "models" / "fast_iris_model"


# What the tests themselves are told in the environment is no setting.
_OWN = {key: value for key, value in os.environ.items() if not key.startswith("MODELYARD_TEST_")}


def run(
    *arguments: str | Path, stdin: str = "", **settings: str
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [MODELYARD, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        env={**_OWN, **settings},
        timeout=60,
    )


def check_mistake(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    """One clear line on standard error, exit code 2, no traceback."""
    assert done.returncode == 2, done
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("modelyard: ")
    for part in parts:
        assert part in done.stderr


def test_serve_prints_plain_lines_and_a_request_that_works() -> None:
    with Server(FAST) as server:
        wait_until(lambda: "curl" in server.output, what="a request to try")
        assert "starting   fast_iris_model/1" in server.output
        assert "ready      fast_iris_model/1" in server.output
        (curl,) = (line for line in server.output.splitlines() if line.startswith("  curl"))
        done = subprocess.run(curl, shell=True, capture_output=True, text=True, check=True)
        assert done.stdout.endswith('"prediction":[0]}')


class Terminal:
    """A terminal on which a folder is served."""

    def __init__(self, folder: Path) -> None:
        self._ours, theirs = pty.openpty()
        self.shown = b""
        self.process = start(
            [MODELYARD, "serve", str(folder), "--port", "0"],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "120"},
        )
        os.close(theirs)

    def read_until(self, text: bytes) -> None:
        """Read what is shown until this is."""
        while text not in self.shown:
            self.shown += os.read(self._ours, 65536)

    def close(self) -> None:
        """Close the terminal, not what runs on it."""
        os.close(self._ours)

    def end(self) -> None:
        """End what runs on it, also after a failed test."""
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(60)


def test_serve_shows_a_live_display_on_a_terminal(stack: ExitStack) -> None:
    terminal = Terminal(FAST)
    stack.callback(terminal.end)
    terminal.read_until(b"curl -s")
    terminal.process.send_signal(signal.SIGTERM)
    assert terminal.process.wait(60) == 0
    terminal.close()
    assert "✓".encode() in terminal.shown
    assert b"\x1b[" in terminal.shown, "it redraws in place"
    assert b"fast_iris_model" in terminal.shown


FORGETFUL = """\
from modelyard import Model

class Served(Model):
    def load(self) -> None:
        if (self.assets.parent.parent / "gone").exists():
            raise ValueError("no weights under [/mnt/weights]")

    def predict(self, instances: list[int]) -> list[int]:
        return instances
"""


def test_a_model_comes_back_whatever_becomes_of_the_terminal(
    tmp_path: Path, stack: ExitStack
) -> None:
    folder = write(tmp_path / "forgetful", FORGETFUL, "[cache]\nttl_s = 0\n")
    terminal, gone = Terminal(folder), tmp_path / "gone"
    stack.callback(terminal.end)
    terminal.read_until(b"/docs")
    url = re.findall(rb"http://[\d.:]+", terminal.shown)[0].decode()

    def kill_its_runner() -> None:
        for child in psutil.Process(terminal.process.pid).children():
            child.kill()

    def answers() -> bool:
        return "[7]" in run("predict", "forgetful", "[7]", "--timeout-s", "5", "--url", url).stdout

    wait_until(answers, what="an answer")
    gone.touch()
    kill_its_runner()
    terminal.read_until(b"no weights under [/mnt/weights]")
    gone.unlink()
    wait_until(answers, what="an answer after a failed load")
    terminal.close()
    kill_its_runner()
    wait_until(answers, what="an answer after the terminal is gone")


def test_predict_and_models_talk_to_a_gateway(iris: Server) -> None:
    rows = "[[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]"
    there = ("--url", iris.url)
    assert run("predict", "fast_iris_model", rows, *there).stdout == "[0, 2]\n"
    assert run("predict", "fast_iris_model", "-", *there, stdin=rows).stdout == "[0, 2]\n"
    by_setting = run("predict", "fast_iris_model", rows, MODELYARD_PORT=iris.url.split(":")[-1])
    assert by_setting.stdout == "[0, 2]\n"
    listed = run("models", *there).stdout.splitlines()
    heads = "MODEL VERSION STATE WORKERS RUNNERS IN FLIGHT QUEUED WHY"
    assert listed[0].split() == heads.split()
    assert listed[1].split() == ["fast_iris_model", "1*", "ready", "1", "1/1", "0", "-"]


def test_predict_takes_files_of_json_and_csv(iris: Server, tmp_path: Path) -> None:
    there = ("--url", iris.url)
    (tmp_path / "rows.csv").write_text("a,b,c,d\n5.1,3.5,1.4,0.2\n6.7,3.0,5.2,2.3\n")
    (tmp_path / "rows.json").write_text("[[6.7, 3.0, 5.2, 2.3]]")
    csv = run("predict", "fast_iris_model", f"@{tmp_path / 'rows.csv'}", *there)
    assert csv.stdout == "[0, 2]\n"
    as_json = run("predict", "fast_iris_model", f"@{tmp_path / 'rows.json'}", *there)
    assert as_json.stdout == "[2]\n"
    (tmp_path / "rows.csv").write_text("5.1,3.5,1.4,0.2\n6.7,3.0,5.2,wide\n")
    bad = run("predict", "fast_iris_model", f"@{tmp_path / 'rows.csv'}", *there)
    check_mistake(bad, "rows.csv, row 2, column 4", "'wide'")


def test_an_example_is_what_predict_takes(iris: Server) -> None:
    there = ("--url", iris.url)
    example = run("example", "fast_iris_model", *there).stdout
    assert run("predict", "fast_iris_model", "-", *there, stdin=example).stdout == "[0]\n"
    check_mistake(run("example", "nobody", *there), "404 model_not_found")
    other = run("example", "fast_iris_model", "--version", "7", *there)
    check_mistake(other, "fast_iris_model has no version 7")


def test_models_for_programs(iris: Server) -> None:
    listed = json.loads(run("models", "--json", "--url", iris.url).stdout)
    assert listed == iris.http.get("/models").json()["models"]


def test_config_tells_every_setting_and_masks_secrets() -> None:
    settings = {"MODELYARD_PORT": "1", "MODELYARD_AMQP_PASSWORD": "hunter2"}
    shown = run("config", **settings)
    rows = {line.split()[0]: line.split()[1:] for line in shown.stdout.splitlines()}
    assert rows["port"] == ["1", "MODELYARD_PORT"]
    assert rows["access_log"] == ["false", "default"]
    found = json.loads(run("config", "--json", **settings).stdout)
    assert found["port"] == {"value": 1, "origin": "MODELYARD_PORT"}
    assert set(found) <= set(rows)
    assert "hunter2" not in shown.stdout + json.dumps(found)


@pytest.mark.parametrize("command", [["config"], ["models", "--url", ""], ["serve", "nowhere"]])
def test_a_variable_that_is_no_setting_is_told(command: list[str]) -> None:
    said = run(*command, MODELYARD_PROT=str(free_port())).stderr
    assert "MODELYARD_PROT is not a setting and is ignored; did you mean MODELYARD_PORT?" in said


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands_and_options(shell: str) -> None:
    script = run("completion", shell).stdout
    for word in ("predict", "log-format", "dockerfile-only"):
        assert word in script


def test_bash_completes_by_the_script() -> None:
    script = run("completion", "bash").stdout
    asked = "COMP_WORDS=(modelyard pred) COMP_CWORD=1; _shtab_modelyard; echo ${COMPREPLY[@]}"
    done = subprocess.run(
        ["bash", "-c", f"{script}\n{asked}"], capture_output=True, text=True, check=False
    )
    assert done.stdout == "predict\n", done


def test_bash_completes_files_where_an_artefact_may_stand(tmp_path: Path) -> None:
    (tmp_path / "iris.onnx").touch()
    script = run("completion", "bash").stdout
    for words in ("serve iris", "new x --from iris", "apply -f iris"):
        asked = f"COMP_WORDS=(modelyard {words}) COMP_CWORD={len(words.split())}"
        done = subprocess.run(
            ["bash", "-c", f"{script}\n{asked}; _shtab_modelyard; echo ${{COMPREPLY[@]}}"],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )
        assert "iris.onnx" in done.stdout, done


def test_predict_tells_problems(iris: Server) -> None:
    there = ("--url", iris.url)
    check_mistake(run("predict", "nobody", "[1]", *there), "404 model_not_found")
    check_mistake(
        run("predict", "fast_iris_model", '[["x"]]', *there), "422 invalid_input", "input_data[0]"
    )
    check_mistake(run("predict", "fast_iris_model", "[1", *there), "not JSON")
    check_mistake(run("predict", "x", "[1]", "--url", "ftp://x"), "expected http://")
    timeout = run("predict", "fast_iris_model", "[[1,1,1,1]]", "--timeout-s", "5000", *there)
    check_mistake(timeout, "400 malformed: timeout_s", "at $.timeout_s")
    check_mistake(run("predict", "x", "[1]", "--timeout-s", "0", *there), "more than 0 seconds")
    check_mistake(run("predict", "x", '["\\ud800"]', *there), "cannot be sent", "surrogates")
    check_mistake(run("models", *there, MODELYARD_API_KEY="two\nlines"), "cannot be sent")
    check_mistake(run("models", *there, MODELYARD_API_KEY="clé"), "MODELYARD_API_KEY holds")


def test_a_nan_reaches_the_model(iris: Server) -> None:
    done = run("predict", "fast_iris_model", "[[NaN, 1, 1, 1]]", "--url", iris.url)
    assert done.stdout == "[0]\n"


def test_nobody_there() -> None:
    check_mistake(run("models", "--url", f"http://127.0.0.1:{free_port()}"), "modelyard serve")


@pytest.mark.parametrize("command", [["models"], ["predict", "x", "[1]"]])
def test_who_answers_is_no_gateway(command: list[str]) -> None:
    for url, said in {
        "foo": "expected http://",
        "http://localhost:abc": "expected http://",
        "http://a b": "no gateway at",
        "http://no-such-host.invalid": "no gateway at",
    }.items():
        check_mistake(run(*command, "--url", url), said)
    for answer, said in {
        b"SSH-2.0-x\r\n": "no gateway at",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}": "not a Modelyard gateway",
        b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n{": "no gateway at",
        b"HTTP/1.1 404 Not Found\r\ncontent-length: 1\r\n\r\n{": "gateway: answered 404",
    }.items():
        with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as thread:
            port = listener.getsockname()[1]
            asked = thread.submit(run, *command, "--url", f"http://127.0.0.1:{port}")
            listener.settimeout(0.05)
            while not asked.done():  # what was lost is asked for again
                with contextlib.suppress(TimeoutError), listener.accept()[0] as connection:
                    connection.recv(1024)
                    connection.sendall(answer)
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(1024):  # closed sooner, it would be reset
                        pass
            check_mistake(asked.result(), said)


def test_predict_asks_again_when_an_answer_was_lost(iris: Server) -> None:
    rows = "[[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]"
    with Proxy(int(iris.url.rpartition(":")[2])) as proxy:
        proxy.to_client.cut_after(20)
        done = run("predict", "fast_iris_model", rows, "--url", f"http://127.0.0.1:{proxy.port}")
        assert proxy.to_client.cuts == 1
    assert done.stdout == "[0, 2]\n"


def test_what_cannot_be_read_or_written(tmp_path: Path) -> None:
    check_mistake(run("predict", "x", "[" * 100_000), "not JSON")
    check_mistake(run("serve", "x" * 300), "too long")
    (tmp_path / "file").touch()
    check_mistake(run("new", "x", "--into", tmp_path / "file"), "cannot be written")


def test_a_busy_port(iris: Server) -> None:
    port = iris.url.split(":")[-1]
    check_mistake(run("serve", FAST, "--port", port), port, "in use", "--port")


def test_folders_that_are_none(tmp_path: Path) -> None:
    check_mistake(run("serve", tmp_path / "nowhere"), "nowhere", "no such folder")
    check_mistake(run("serve", tmp_path), "no model.toml", "modelyard new")
    again = shutil.copytree(FAST, tmp_path / "again")
    check_mistake(run("serve", FAST, again, "--strict"), "fast_iris_model/1", "again")


BROKEN = {
    "not TOML": ("name = ", ":1:", "TOML"),
    "missing": ('name = "x"\nversion = "1"\n', "model.toml:1:", "class"),
    "wrong type": ('name = "x"\nversion = 1\nclass = "a:B"\n', "model.toml:2:", "as a string"),
    "bad name": ('name = "X"\nversion = "1"\nclass = "a:B"\n', "model.toml:1:", "lower-case"),
    "bad value": (
        'name = "x"\nversion = "1"\nclass = "a:B"\n[limits]\ntimeout_s = -1\n',
        "model.toml:5: limits.timeout_s:",
        "> 0",
    ),
    "unknown": (
        'name = "x"\nversion = "1"\nclass = "a:B"\n\n[batching]\nsize = 3\n',
        "model.toml:6: batching.size:",
        "max_batch_size",
    ),
}


@pytest.mark.parametrize(("text", "place", "expected"), BROKEN.values(), ids=BROKEN)
def test_a_broken_manifest(tmp_path: Path, text: str, place: str, expected: str) -> None:
    (tmp_path / "model.toml").write_text(text)
    check_mistake(run("serve", tmp_path), place, expected)


def test_bad_settings(tmp_path: Path) -> None:
    check_mistake(run("serve", FAST, MODELYARD_PORT="many"), "MODELYARD_PORT", "int")
    check_mistake(run("serve", FAST, "--port", "70000"), "--port", "65535")
    file = tmp_path / "settings.toml"
    file.write_text("prot = 1\n")
    check_mistake(run("serve", FAST, "--config", file), "settings.toml", "prot")


def test_new_models_serve_and_pass_their_test(tmp_path: Path) -> None:
    written = run("new", "sentiment", "--into", tmp_path)
    assert written.returncode == 0, written
    assert run("new", "another-one", "--into", tmp_path).returncode == 0
    folder = tmp_path / "sentiment"
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert "4 passed" in tested.stdout, tested
    with Server(folder) as server:
        done = run("predict", "sentiment", '["a great film", "an awful film"]', "--url", server.url)
        assert done.stdout == "[2.0, -2.0]\n"
    check_mistake(run("new", "sentiment", "--into", tmp_path), "exists already")
    check_mistake(run("new", "No Name", "--into", tmp_path), "no model name")


def test_help_teaches() -> None:
    shown = run("--help").stdout
    for command in ("serve", "predict", "models", "new"):
        assert f"modelyard {command}" in shown
        assert run(command, "--help").returncode == 0
    assert run("--version").stdout == f"modelyard {__version__}\n"
    alone = run()
    assert (alone.returncode, alone.stdout, alone.stderr) == (2, shown, "")
    assert "first steps:\n  modelyard new sentiment" in alone.stdout


def test_logs_are_json_lines_without_bodies_and_requests_only_if_asked() -> None:
    with Server(TRICK, settings={"MODELYARD_ACCESS_LOG": "true"}) as server:
        secret = 987654321
        server.predict("trick_model", [{"nonce": secret}], headers={"x-request-id": "look"})
        wait_until(lambda: '"event":"request"' in server.output, what="the access log")
        assert '"id":"look"' in server.output
        assert str(secret) not in server.output
    with Server(TRICK) as server:
        server.predict("trick_model", [{"nonce": 1}], headers={"x-request-id": "look"})
        server.predict(
            "trick_model", [{"nonce": 2, "act": "exit"}], headers={"x-request-id": "bad"}
        )
        wait_until(lambda: server.output.count('"event":"runner_lost"') == 2, what="two log lines")
        assert '"ids":["bad"]' in server.output
        assert "look" not in server.output
