"""docker, podman or buildah: the first that is installed and works."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence

from modelyard.image import ImageError
from modelyard.image.context import Context

BUILDERS = ("docker", "podman", "buildah")
ANSWER_TIMEOUT_S = 20


def find_builder() -> str:
    """Return the first builder that works: docker's command may be there without its engine.

    Raises:
        ImageError: There is none.
    """
    idle = []
    for name in BUILDERS:
        if shutil.which(name):
            if _works(name):
                return name
            idle.append(f"`{name} version` fails")
    raise ImageError(
        "an image needs docker, podman or buildah: "
        + (" and ".join(idle) or "none of them is installed")
    )


def build_image(
    context: Context, *, tag: str, builder: str, platform: str | None, more: Sequence[str]
) -> None:
    """Build the image; what the builder says goes to the terminal.

    Raises:
        ImageError: The builder failed.
    """
    command = [builder, "build", "--tag", tag]
    if builder != "docker":
        command += ["--format", "docker", "--layers"]  # the other format has no health check
    if platform:
        command += ["--platform", platform]
    try:
        done = subprocess.run([*command, *more, str(context.folder)], check=False)
    except OSError as error:
        raise ImageError(f"{builder} cannot be run: {error.strerror or error}") from error
    if done.returncode:
        raise ImageError(f"{builder} ended with exit code {done.returncode}; see above")


def _works(name: str) -> bool:
    try:
        asked = subprocess.run(
            [name, "version"], capture_output=True, check=False, timeout=ANSWER_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.returncode == 0
