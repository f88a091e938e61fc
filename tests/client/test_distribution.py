"""What is in the client's wheel, what it needs, and what importing it costs."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

import modelyard
import modelyard.client
import modelyard.client.testing
from tests.support.server import ROOT

FOLDER = ROOT / "clients" / "python"


def build(folder: Path, into: Path, *kinds: str) -> list[Path]:
    """Build these distributions from a folder."""
    targets = [part for kind in kinds for part in ("-t", kind)]
    command = [sys.executable, "-m", "hatchling", "build", *targets, "-d", str(into)]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return sorted(into.iterdir())


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return build(FOLDER, tmp_path_factory.mktemp("dist"), "sdist", "wheel")


@pytest.fixture(scope="module")
def wheel(built: list[Path]) -> Path:
    (wheel,) = (path for path in built if path.suffix == ".whl")
    return wheel


def contents_of(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def metadata_of(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return Parser().parsestr(archive.read(name).decode())


def test_the_wheel_holds_the_client_and_nothing_else(wheel: Path) -> None:
    contents = contents_of(wheel)
    names = contents.keys()
    sources = ROOT / "src" / "modelyard" / "client"
    packaged = {Path(name).name for name in names if name.startswith("modelyard_client/")}
    assert packaged == {path.name for path in sources.glob("*.py")} | {"py.typed"}
    folders = {name.split("/")[0] for name in names}
    assert folders == {"modelyard_client", f"modelyard_client-{modelyard.__version__}.dist-info"}
    (licence,) = (name for name in names if name.endswith("licenses/LICENSE"))
    assert contents[licence] == (ROOT / "LICENSE").read_bytes()


def test_the_sdist_builds_the_same_wheel(built: list[Path], wheel: Path, tmp_path: Path) -> None:
    (sdist,) = (path for path in built if path != wheel)
    with tarfile.open(sdist) as archive:
        assert all(member.isfile() for member in archive), "no link leads out of it"
        archive.extractall(tmp_path / "unpacked", filter="data")
    (folder,) = (tmp_path / "unpacked").iterdir()
    (again,) = build(folder, tmp_path / "dist", "wheel")
    assert contents_of(again) == contents_of(wheel)


def test_the_servers_sdist_holds_the_client_that_its_commands_ask_through(tmp_path: Path) -> None:
    (sdist,) = build(ROOT, tmp_path, "sdist")
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames()}
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "src").rglob("*.py")}
    assert sources <= names


def test_it_needs_two_libraries(wheel: Path) -> None:
    needed = metadata_of(wheel).get_all("Requires-Dist") or []
    assert sorted(line for line in needed if "extra" not in line) == [
        "httpx2>=2.16",
        "msgspec>=0.22",
    ]


def test_client_and_server_have_one_version(wheel: Path) -> None:
    assert modelyard.client.__version__ == modelyard.__version__
    assert metadata_of(wheel)["Version"] == modelyard.__version__


@pytest.mark.parametrize("module", ["modelyard_client", "modelyard_client.testing"])
def test_importing_the_wheel_pulls_in_neither_the_server_nor_numpy(
    wheel: Path, module: str
) -> None:
    show = f"import sys, {module}; print({module}.__file__, *sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(wheel)}
    command = [sys.executable, "-c", show]
    run = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    file, *loaded = run.stdout.split()
    assert file.startswith(str(wheel))
    assert {"modelyard", "numpy", "fastapi"}.isdisjoint(loaded)


def test_the_public_names() -> None:
    for module in (modelyard.client, modelyard.client.testing):
        assert module.__all__ == sorted(module.__all__)
        assert all(hasattr(module, name) for name in module.__all__)
    errors = {
        name
        for name, value in vars(modelyard.client.errors).items()
        if isinstance(value, type) and issubclass(value, Exception)
    }
    assert errors <= set(modelyard.client.__all__)
    assert set(modelyard.client.__all__) - errors == {
        *("Answer", "AsyncClient", "Client", "Retry", "__version__"),
        *("AsyncBatch", "AsyncJob", "Job", "JobError", "JobInfo"),
        *("Batch", "BatchCost", "BatchInfo", "BatchRows", "FailedRow"),
        *("Capacity", "ModelDetails", "ModelInfo", "VersionDetails", "VersionInfo", "WorkerInfo"),
    }
    assert modelyard.client.testing.__all__ == ["FakeModel", "FakeModels", "Question"]
