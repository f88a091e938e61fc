"""Signatures over a version's files, as ``model-signing`` of OpenSSF writes them.

What is signed is the list of all paths and digests, so a signature is checked without a file being
read; that the files have these digests is checked apart. Name and version are in ``model.toml``,
which is one of the files. The library is the extra ``modelyard[signing]``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from modelyard.core.names import Target
from modelyard.core.versions import Contents
from modelyard.registry.errors import RegistryError

if TYPE_CHECKING:
    from model_signing import hashing, signing

T = TypeVar("T")

_AS_FILES = {"method": "files", "hash_type": "sha256", "allow_symlinks": False}
LONGEST_REASON = 300  # characters of what the library says


class Identity(NamedTuple):
    """Somebody at Sigstore: a name, as of a workflow or an address, and who vouches for it."""

    name: str
    issuer: str


def sign(contents: Contents, key: Path) -> str:
    """Return a signature by a private key: a file in PEM, of an elliptic curve.

    Raises:
        RegistryError: The key cannot be used.
    """
    need_library()
    from model_signing import signing

    try:
        signer = signing.Config().use_elliptic_key_signer(private_key=key)
    except Exception as error:  # there are many ways not to be a key
        raise RegistryError(f"{key} cannot sign: {_reason(error)}") from error
    return _signed(signer, contents)


def sign_at_sigstore(contents: Contents) -> str:
    """Return a signature by whoever this is at Sigstore: the workflow that runs, or who logs in.

    Raises:
        RegistryError: Sigstore cannot be reached, or does not know who this is.
    """
    need_library()
    from model_signing import signing

    signer = signing.Config().use_sigstore_signer(use_ambient_credentials=True)
    try:
        return _signed(signer, contents)
    except Exception as error:  # of many libraries
        raise RegistryError(f"Sigstore has not signed it: {_reason(error)}") from error


def need_library() -> None:
    """See that the library is here.

    Raises:
        RegistryError: It is not.
    """
    if find_spec("model_signing") is None:
        raise RegistryError(
            "signatures need a library that is not here: pip install 'modelyard[signing]'"
        )


class Trust:
    """Who has to have signed a version that is loaded.

    Args:
        keys: Public keys, files in PEM.
        identities: At Sigstore.

    Raises:
        RegistryError: A key cannot be read, or the library is missing.
    """

    def __init__(self, keys: Sequence[Path], identities: Sequence[Identity] = ()) -> None:
        need_library()
        from model_signing import verifying

        self._verifiers: list[tuple[str, Callable[[], verifying.Config]]] = []
        for key in keys:
            try:
                config = verifying.Config().use_elliptic_key_verifier(public_key=key)
            except Exception as error:  # there are many ways not to be a key
                raise RegistryError(f"trusted_keys: {key}: {_reason(error)}") from error
            self._verifiers.append((key.name, partial(_return, config)))
        for name, issuer in identities:
            # Made when it is asked for: it fetches Sigstore's own keys.
            make = partial(verifying.Config().use_sigstore_verifier, identity=name)
            self._verifiers.append((name, partial(make, oidc_issuer=issuer)))

    def check(self, target: Target, contents: Contents) -> str:
        """Return who has signed a version, of those who are trusted.

        Raises:
            RegistryError: Nobody has; says why.
        """
        if not contents.signature:
            raise RegistryError(
                f"{target} is refused: it has no signature, and only what is signed is loaded here"
            )
        reasons = []
        for who, make in self._verifiers:
            try:
                with _in_a_file(contents.signature) as path:
                    make().set_hashing_config(_listed(contents)).verify("model", path)
            except Exception as error:  # the signature is anybody's text
                reasons.append(f"{who}: {_reason(error)}")
            else:
                return who
        raise RegistryError(
            f"{target} is refused: nobody who is trusted has signed it as it is: "
            + "; ".join(reasons)
        )


def _signed(signer: signing.Config, contents: Contents) -> str:
    with _in_a_file("") as path:
        signer.set_hashing_config(_listed(contents)).sign("model", path)
        return path.read_text(encoding="utf-8")


@contextmanager
def _in_a_file(text: str) -> Iterator[Path]:
    """Give a file with a signature: the library takes nothing else."""
    with tempfile.TemporaryDirectory(prefix="modelyard-signature-") as folder:
        path = Path(folder, "signature.json")
        path.write_text(text, encoding="utf-8")
        yield path


def _listed(contents: Contents) -> hashing.Config:
    """Return what the library takes for the hashing of a folder, without a folder."""
    from model_signing import hashing, manifest
    from model_signing._hashing.hashing import Digest

    kind = manifest.SerializationType.from_args(_AS_FILES)
    items = [
        kind.new_item(file.path, Digest("sha256", bytes.fromhex(file.digest.partition(":")[2])))
        for file in contents.files
    ]

    class Listed(hashing.Config):
        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call]

        def hash(self, model_path: object, *, files_to_hash: object = None) -> manifest.Manifest:
            return manifest.Manifest("model", items, kind)

    return Listed()


def _return(config: T) -> T:
    return config


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]}…"
