"""The secrets that models ask for by name."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from modelyard.equipment import NotEquipped


class Secrets:
    """Finds secrets, anew each time: a file may have been replaced since.

    Args:
        variables: The environment of this process, without what is Modelyard's own.
        folder: Holds one file for each secret, called like it; None for none.
        reserved: Names of files in it that are the server's own and given to no model.
    """

    def __init__(
        self, variables: Mapping[str, str], folder: Path | None, *, reserved: Collection[str]
    ) -> None:
        self._variables = variables
        self._folder = folder
        self._reserved = reserved

    def find(self, names: Iterable[str]) -> dict[str, str]:
        """Return the secrets by name: from the environment, else from the folder.

        Raises:
            NotEquipped: One is missing, or its file cannot be used.
        """
        found = {name: self._find(name) for name in names}
        missing = [name for name, value in found.items() if value is None]
        if missing:
            which = ", ".join(missing)
            what = "secret" if len(missing) == 1 else "secrets"
            raise NotEquipped(
                f"{what} {which} missing: set each in the server's environment, or put it in a "
                f"file of that name in {self._folder or 'a folder that MODELYARD_SECRETS names'}"
            )
        return {name: value for name, value in found.items() if value is not None}

    def _find(self, name: str) -> str | None:
        if name in self._variables:
            return self._variables[name]
        if self._folder is None or name in self._reserved:
            return None
        path = self._folder / name
        try:
            value = path.read_text(encoding="utf-8").rstrip("\n")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no text in UTF-8"
            raise NotEquipped(f"secret {name}: {path} cannot be read: {reason}") from error
        if "\0" in value:
            raise NotEquipped(f"secret {name}: {path} holds a NUL, which no variable can")
        return value
