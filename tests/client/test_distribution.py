"""What is in the client's wheel, what it needs, and what importing it costs."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

import modelyard
import modelyard_client
import modelyard_client.testing
from tests.support.server import ROOT

FOLDER = ROOT / "clients" / "python"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=FOLDER, check=True, capture_output=True)
    (wheel,) = folder.iterdir()
    return wheel


def metadata_of(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return Parser().parsestr(archive.read(name).decode())


def test_the_wheel_holds_the_client_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    sources = {str(path.relative_to(FOLDER / "src")) for path in FOLDER.glob("src/**/*.py")}
    packaged = {name for name in names if name.startswith("modelyard_client/")}
    assert packaged == sources | {"modelyard_client/py.typed"}
    folders = {name.split("/")[0] for name in names}
    assert folders == {"modelyard_client", f"modelyard_client-{modelyard.__version__}.dist-info"}
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_it_needs_two_libraries(wheel: Path) -> None:
    needed = metadata_of(wheel).get_all("Requires-Dist") or []
    assert sorted(line for line in needed if "extra" not in line) == [
        "httpx2>=2.16",
        "msgspec>=0.22",
    ]


def test_client_and_server_have_one_version(wheel: Path) -> None:
    assert modelyard_client.__version__ == modelyard.__version__
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
    for module in (modelyard_client, modelyard_client.testing):
        assert module.__all__ == sorted(module.__all__)
        assert all(hasattr(module, name) for name in module.__all__)
    errors = {
        name
        for name, value in vars(modelyard_client.errors).items()
        if isinstance(value, type) and issubclass(value, Exception)
    }
    assert errors <= set(modelyard_client.__all__)
    assert set(modelyard_client.__all__) - errors == {
        *("Answer", "AsyncClient", "Capacity", "Client", "ModelInfo", "Retry", "VersionInfo"),
        "__version__",
    }
    assert modelyard_client.testing.__all__ == ["FakeModel", "FakeModels", "Question"]
