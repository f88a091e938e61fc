"""Python environments for ``isolated`` models: made once from a lock file, and kept.

An environment is a folder with a random name. Once it is whole, a symbolic link that is called by
its key appears beside it, and nothing uses it before. The key is a digest of all that it was made
from, so another lock file, Python or Modelyard gets another one. It holds what the lock file names;
the runner's own three packages are links to the server's, behind it on the path.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import platform
import shutil
import signal
import sys
import sysconfig
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from hashlib import sha256
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import msgspec
import setproctitle

import modelyard
from modelyard.core.manifest import Manifest
from modelyard.equipment import NotEquipped
from modelyard.folder import FolderError
from modelyard.requirements import LOCK, clashes_of_lock, read_requirements

log = logging.getLogger(__name__)

OnStep = Callable[[str], None]

MAKING = "its Python environment is being made from requirements.lock"
WAITING = "another process is making its Python environment"
LAST_LINES = 6
LONGEST_LINE = 200
LOOK_AGAIN_S = 0.2

_SCHEME = 1  # of what is below: another number makes all environments anew
_RUNNER_NEEDS = (modelyard, msgspec, setproctitle)
_OF_ANOTHER_PYTHON = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")


class Environments:
    """Makes environments, and finds those that are made.

    Args:
        folder: Where they are; made when the first is. Several processes may share it. None if
            there is no place for it.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    async def path_of(
        self, model: Path, manifest: Manifest, *, variables: Mapping[str, str], on_step: OnStep
    ) -> Path:
        """Return the environment of the model in the folder ``model``; creates it if necessary.

        Args:
            model: The model's folder.
            manifest: The model's.
            variables: The environment variables of the installer.
            on_step: Told what is waited for, if it is.

        Raises:
            NotEquipped: It cannot be made; the text has the installer's last lines.
        """
        if self._folder is None:
            raise NotEquipped("no place for its Python environment: set environments_folder")
        lock = await asyncio.to_thread(_read_lock, model)
        path = self._folder / _key(lock)
        try:
            if not path.exists():
                self._folder.mkdir(parents=True, exist_ok=True)
                async with _alone(path.with_suffix(".lock"), on_step):
                    if not path.exists():  # else another has made it meanwhile
                        on_step(MAKING)
                        maker = _Maker(model, lock, without_python(variables))
                        await _make(path, maker, target=str(manifest.target))
        except OSError as error:
            if isinstance(error, NotEquipped):
                raise
            raise NotEquipped(f"its Python environment cannot be made: {error}") from error
        return path


def without_python(variables: Mapping[str, str]) -> dict[str, str]:
    """Return ``variables`` without those that point to another Python's packages."""
    return {name: value for name, value in variables.items() if name not in _OF_ANOTHER_PYTHON}


def python_in(environment: Path) -> str:
    """Return the path of an environment's Python."""
    return str(environment / "bin" / "python")


class _Maker:
    """Fills a folder with an environment.

    Args:
        model: The model's folder, where relative paths in the lock file begin.
        lock: What the lock file says.
        variables: Of the installer.
    """

    def __init__(self, model: Path, lock: bytes, variables: dict[str, str]) -> None:
        self._model = model
        self._lock = lock
        self._hashes = ["--require-hashes"] if b"--hash=" in lock else []
        self._variables = variables

    async def fill(self, home: Path) -> None:
        """Make the environment in the empty folder ``home``."""
        python = python_in(home)
        if uv := shutil.which("uv", path=self._variables.get("PATH")):
            quiet = ("--no-progress", "--color", "never")
            await self._run(
                uv, "venv", *quiet, "--allow-existing", "--python", sys.executable, home
            )
            install = [uv, "pip", "install", *quiet, "--python", python]
        else:
            await self._run(sys.executable, "-m", "venv", home)
            quiet = ("--no-input", "--no-color", "--disable-pip-version-check")
            install = [python, "-m", "pip", "install", *quiet, "--progress-bar", "off"]
        if self._lock:
            # What was read, and has given the environment its key: the file may have changed since.
            copy = home / LOCK
            copy.write_bytes(self._lock)
            await self._run(*install, *self._hashes, "-r", copy)
        await asyncio.to_thread(_link_runner, home)

    async def _run(self, *command: str | Path) -> None:
        """Run an installer to its end; one that is not waited for any more is ended."""
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=self._model,
            env=self._variables,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            output, _ = await process.communicate()
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        if process.returncode:
            lines = output.decode(errors="backslashreplace").splitlines()
            last = [line.strip()[:LONGEST_LINE] for line in lines if line.strip()][-LAST_LINES:]
            name = Path(command[0]).name
            said = " | ".join(last) or f"exit code {process.returncode}"
            raise NotEquipped(f"its Python environment cannot be made: {name}: {said}")


async def _make(path: Path, maker: _Maker, *, target: str) -> None:
    """Make an environment beside ``path``, and link it there once it is whole."""
    started = time.monotonic()
    log.info("environment_started", extra={"model": target, "path": str(path)})
    for left_behind in path.parent.glob(f"{path.name}.*.d"):
        await asyncio.to_thread(shutil.rmtree, left_behind, ignore_errors=True)
    home = Path(tempfile.mkdtemp(prefix=f"{path.name}.", suffix=".d", dir=path.parent))
    try:
        await maker.fill(home)
        link = home / "link"
        link.symlink_to(home.name)
        link.replace(path)
    except BaseException:
        await asyncio.to_thread(shutil.rmtree, home, ignore_errors=True)
        raise
    took_s = round(time.monotonic() - started, 3)
    log.info("environment_made", extra={"model": target, "path": str(path), "seconds": took_s})


@contextlib.asynccontextmanager
async def _alone(path: Path, on_step: OnStep) -> AsyncIterator[None]:
    """Hold a lock file, which the kernel gives back however this process ends."""
    with path.open("ab") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                on_step(WAITING)
                await asyncio.sleep(LOOK_AGAIN_S)
        yield


def _read_lock(model: Path) -> bytes:
    """Return the content of the lock file, checked; empty if nothing is needed."""
    try:
        packages = [package.__name__ for package in _RUNNER_NEEDS]
        if clashes := clashes_of_lock(model, packages):
            raise NotEquipped("; ".join(clashes))
        if (lock := model / LOCK).exists():
            return lock.read_bytes()
        if read_requirements(model):
            raise NotEquipped(
                f"isolated = true needs {LOCK}, which is not there: `uv pip compile "
                f"requirements.txt --generate-hashes -o {LOCK}` in the model's folder writes it"
            )
    except (FolderError, UnicodeDecodeError) as error:
        raise NotEquipped(f"its requirements cannot be used: {error}") from error
    except PackageNotFoundError as error:
        raise NotEquipped("isolated = true needs a Modelyard that is installed") from error
    return b""


def _key(lock: bytes) -> str:
    parts = [
        str(_SCHEME),
        sha256(lock).hexdigest(),
        platform.python_implementation(),
        platform.python_version(),
        sysconfig.get_platform(),
        os.path.realpath(sys.base_prefix),
        modelyard.__version__,
        *(str(_folder_of(package)) for package in _RUNNER_NEEDS),
    ]
    return sha256("\0".join(parts).encode()).hexdigest()[:32]


def _folder_of(package: object) -> Path:
    return Path(str(getattr(package, "__file__", ""))).resolve().parent


def _link_runner(home: Path) -> None:
    """Let the environment import what the runner needs, and nothing else of the server's.

    Links, so that it is always what the server runs. They come last on the path: what the lock file
    names goes before them.
    """
    own = home / "modelyard"
    own.mkdir()
    for package in _RUNNER_NEEDS:
        folder = _folder_of(package)
        (own / folder.name).symlink_to(folder)
    site_packages = sysconfig.get_path("purelib", "venv", {"base": str(home)})
    Path(site_packages, "modelyard.pth").write_text(f"{own}\n", encoding="utf-8")
