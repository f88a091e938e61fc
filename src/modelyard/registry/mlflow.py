"""Models of an MLflow server, by its REST: what a URI of MLflow names, its files and its lineage.

    models:/NAME@ALIAS    models:/NAME/VERSION    runs:/RUN_ID/PATH

MLflow itself is not needed. What the server answers is foreign: paths are checked before anything
is written, and nothing is read from this machine because the server says so.
"""

from __future__ import annotations

import base64
import re
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import NamedTuple, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from modelyard.core.errors import RequestError
from modelyard.core.names import Target, is_name
from modelyard.core.versions import MOST_FILES, check_path
from modelyard.registry.errors import RegistryError
from modelyard.registry.interface import pieces_of

TIMEOUT_S = 60.0
_URI = re.compile(
    r"models:/(?P<name>[^/@]+)(@(?P<alias>[^/@]+)|/(?P<version>\d+))|runs:/(?P<run>\w+)/(?P<path>.+)"
)
_API = "/api/2.0/mlflow"
_PROXY = "/api/2.0/mlflow-artifacts/artifacts"
_COMMIT = "mlflow.source.git.commit"
T = TypeVar("T")


class Found(NamedTuple):
    """What a URI of MLflow names.

    Attributes:
        uri: With the version in place of an alias.
        name: The model's name there; empty for a run.
        version: Its version there; empty for a run.
        files: Where its files are, as MLflow says it.
        run: The address of the run that it comes from; empty if none is known.
        commit: Of the source code of the run; may be empty.
    """

    uri: str
    name: str
    version: str
    files: str
    run: str
    commit: str


class _Version(msgspec.Struct, frozen=True):
    name: str
    version: str
    run_id: str = ""


class _VersionAnswer(msgspec.Struct, frozen=True):
    model_version: _Version


class _Files(msgspec.Struct, frozen=True):
    artifact_uri: str


class _Tag(msgspec.Struct, frozen=True):
    key: str
    value: str


class _Info(msgspec.Struct, frozen=True):
    artifact_uri: str
    experiment_id: str


class _Data(msgspec.Struct, frozen=True):
    tags: list[_Tag] = []


class _Output(msgspec.Struct, frozen=True):
    model_id: str


class _Outputs(msgspec.Struct, frozen=True):
    model_outputs: list[_Output] = []


class _Run(msgspec.Struct, frozen=True):
    info: _Info
    data: _Data = _Data()
    outputs: _Outputs = _Outputs()


class _RunAnswer(msgspec.Struct, frozen=True):
    run: _Run


class _Logged(msgspec.Struct, frozen=True):
    name: str
    artifact_uri: str


class _LoggedModel(msgspec.Struct, frozen=True):
    info: _Logged


class _LoggedAnswer(msgspec.Struct, frozen=True):
    model: _LoggedModel


class _Listed(msgspec.Struct, frozen=True):
    path: str
    is_dir: bool = False


class _Listing(msgspec.Struct, frozen=True):
    files: list[_Listed] = []


class Login(NamedTuple):
    """What the server wants: a token, or a name and a password; empty for nothing."""

    token: str = ""
    username: str = ""
    password: str = ""


class Mlflow:
    """A server of MLflow.

    Args:
        url: Its address.
        login: What it wants.
    """

    def __init__(self, url: str, login: Login) -> None:
        if not url:
            raise RegistryError("say where MLflow is: --from URL, or MLFLOW_TRACKING_URI")
        if not url.startswith(("http://", "https://")):
            raise RegistryError(f"{url}: expected the http:// or https:// address of MLflow")
        self._url = url.rstrip("/")
        self._headers = {}
        if login.token:
            self._headers["authorization"] = f"Bearer {login.token}"
        elif login.username:
            pair = base64.b64encode(f"{login.username}:{login.password}".encode()).decode()
            self._headers["authorization"] = f"Basic {pair}"

    def find(self, uri: str) -> Found:
        """Return what a URI names.

        Raises:
            RegistryError: It names nothing, or the server cannot be asked.
        """
        parts = _URI.fullmatch(uri)
        if parts is None:
            raise RegistryError(
                f"{uri}: expected models:/NAME@ALIAS, models:/NAME/VERSION or runs:/RUN_ID/PATH"
            )
        if parts["run"]:
            run = self._run(parts["run"])
            files = self._files_of_run(run, parts["path"])
            return Found(uri, "", "", files, self._address_of(run, parts["run"]), _commit_of(run))
        name = parts["name"]
        if parts["alias"]:
            asked = {"name": name, "alias": parts["alias"]}
            version = self._ask("/registered-models/alias", _VersionAnswer, **asked).model_version
        else:
            asked = {"name": name, "version": parts["version"]}
            version = self._ask("/model-versions/get", _VersionAnswer, **asked).model_version
        asked = {"name": name, "version": version.version}
        files = self._ask("/model-versions/get-download-uri", _Files, **asked).artifact_uri
        where, commit = "", ""
        if version.run_id:
            run = self._run(version.run_id)
            where, commit = self._address_of(run, version.run_id), _commit_of(run)
        uri = f"models:/{name}/{version.version}"
        return Found(uri, name, version.version, files, where, commit)

    def download(self, found: Found, into: Path, *, most_bytes: int) -> None:
        """Write its files into a folder, which is not there yet.

        Raises:
            RegistryError: They cannot be had, or are not what a version may have; names the file.
        """
        parts = urlsplit(found.files)
        if parts.scheme != "mlflow-artifacts":
            raise RegistryError(
                f"the files of {found.uri} are at {found.files}, where MLflow does not hand them "
                "out: start it with --serve-artifacts, or push a folder instead"
            )
        root = parts.path.strip("/")
        count = 0
        for path in self._walk(root, ""):
            count += 1
            if count > MOST_FILES:
                raise RegistryError(f"{found.uri} has more than {MOST_FILES} files")
            target = into / path
            target.parent.mkdir(parents=True, exist_ok=True)
            self._fetch(f"{root}/{path}", target, most_bytes=most_bytes)
        if not count:
            raise RegistryError(f"{found.uri} has no files")

    def _walk(self, root: str, inside: str) -> Iterator[str]:
        """Give the paths of all files below a folder."""
        folder = f"{root}/{inside}".rstrip("/")
        listing = self._get(f"{_PROXY}?{urlencode({'path': folder})}", _Listing)
        for file in listing.files:
            path = f"{inside}/{file.path}".lstrip("/")
            try:
                check_path(path)
            except RequestError as error:
                raise RegistryError(f"what MLflow lists is refused: {error.detail}") from error
            if file.is_dir:
                yield from self._walk(root, path)
            else:
                yield path

    def _fetch(self, path: str, target: Path, *, most_bytes: int) -> None:
        size = 0
        with self._open(f"{_PROXY}/{quote(path)}") as answer, target.open("xb") as stream:
            try:
                for piece in pieces_of(answer):
                    size += len(piece)
                    if size > most_bytes:
                        raise RegistryError(f"{path} is over the limit of {most_bytes} bytes")
                    stream.write(piece)
            except (OSError, HTTPException) as error:
                raise RegistryError(f"{path} broke off after {size} bytes: {error}") from error
        expected = answer.headers["content-length"]
        if expected is not None and int(expected) != size:
            raise RegistryError(f"{path} broke off after {size} of {expected} bytes")

    def _run(self, run_id: str) -> _Run:
        return self._ask("/runs/get", _RunAnswer, run_id=run_id).run

    def _files_of_run(self, run: _Run, path: str) -> str:
        """Return where a model of a run is: MLflow 3 keeps it beside the run."""
        for output in run.outputs.model_outputs:
            model = self._ask(f"/logged-models/{quote(output.model_id)}", _LoggedAnswer).model.info
            if model.name == path:
                return model.artifact_uri
        return f"{run.info.artifact_uri.rstrip('/')}/{path}"

    def _address_of(self, run: _Run, run_id: str) -> str:
        return f"{self._url}/#/experiments/{run.info.experiment_id}/runs/{run_id}"

    def _ask(self, path: str, kind: type[T], **query: str) -> T:
        return self._get(f"{_API}{path}?{urlencode(query)}", kind)

    def _get(self, path: str, kind: type[T]) -> T:
        with self._open(path) as answer:
            try:
                return msgspec.json.decode(answer.read(), type=kind)
            except (msgspec.DecodeError, UnicodeDecodeError, OSError, HTTPException) as error:
                raise RegistryError(f"{self._url} answers as no MLflow does: {error}") from error

    def _open(self, path: str) -> HTTPResponse:
        request = urllib.request.Request(self._url + path, headers=self._headers)  # noqa: S310
        try:
            answer: HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT_S)  # noqa: S310
        except HTTPError as error:
            raise RegistryError(
                f"MLflow at {self._url} answers {error.code}: {_text(error)}"
            ) from (error)
        except (URLError, OSError, HTTPException) as error:
            reason = " ".join(str(getattr(error, "reason", error)).split())
            raise RegistryError(f"MLflow at {self._url} cannot be asked: {reason}") from error
        return answer


def target_of(found: Found) -> Target:
    """Return what a model of MLflow is called here: its name and version there.

    Raises:
        RegistryError: It has none, or none that can be used here.
    """
    name = found.name.lower().replace(" ", "_")
    if not (is_name(name) and is_name(found.version)):
        raise RegistryError(f"say what {found.uri} is to be called here: --as MODEL@VERSION")
    return Target(name, found.version)


def model_toml(target: Target, found: Found) -> str:
    """Return the ``model.toml`` of a folder around what MLflow has saved in ``assets/model``."""
    described = msgspec.json.encode(f"Imported from MLflow: {found.uri}").decode()
    return (
        f'name = "{target.name}"\nversion = "{target.version}"\nruntime = "mlflow"\n'
        f'artefact = "assets/model"\ndescription = {described}\n'
    )


def _commit_of(run: _Run) -> str:
    return next((tag.value for tag in run.data.tags if tag.key == _COMMIT), "")


def _text(error: HTTPError) -> str:
    try:
        found = msgspec.json.decode(error.read(), type=dict[str, object])
        return str(found.get("message") or error.reason)
    except (msgspec.DecodeError, UnicodeDecodeError, OSError, HTTPException):
        return str(error.reason)
