"""The address of a model: JSON without its name, and files as they are."""

from __future__ import annotations

import gzip
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.e2e.test_odd_models import write
from tests.support.raw import ask, request_bytes
from tests.support.server import Server, wait_until

FILES = (
    "from modelyard import InvalidInput, Model\n\n"
    "class Served(Model):\n"
    "    def predict(self, instances: list[bytes]) -> list[str]:\n"
    "        for number, instance in enumerate(instances):\n"
    "            if not instance:\n"
    "                raise InvalidInput('an empty file', instance=number)\n"
    "        return [f'{len(i)} {i[:4].hex()}' for i in instances]\n"
)
TEXTS = (
    "from modelyard import Model\n\n"
    "class Served(Model):\n"
    "    def predict(self, instances: list[str]) -> list[int]:\n"
    "        return [len(text) for text in instances]\n"
)
NUMBERS = (
    "from modelyard import Model\n\n"
    "class Served(Model):\n"
    "    def predict(self, instances: list[int]) -> list[int]:\n"
    "        return [number + 1 for number in instances]\n"
)
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("models")
    models = [
        write(folder / name, code)
        for name, code in (("files", FILES), ("texts", TEXTS), ("numbers", NUMBERS))
    ]
    with Server(*models) as server:
        wait_until(
            lambda: (
                [
                    model["versions"][0]["state"]
                    for model in server.http.get("/models").json()["models"]
                ]
                == ["ready"] * 3
            ),
            what="the models",
        )
        yield server


@pytest.mark.parametrize(
    "path", ["/models/numbers/predict", "/models/numbers/versions/1/predict", "/predict"]
)
@pytest.mark.parametrize("form", ["json", "msgpack"])
def test_the_address_may_name_the_model_and_its_version(
    served: Server, path: str, form: str
) -> None:
    encode = msgspec.json.encode if form == "json" else msgspec.msgpack.encode
    decode = msgspec.json.decode if form == "json" else msgspec.msgpack.decode
    asked: dict[str, object] = {"input_data": [1, 2], "timeout_s": 20, "priority": "high"}
    asked |= {"model_name": "numbers"} if path == "/predict" else {}
    headers = {"content-type": f"application/{form}", "x-request-id": "mine"}
    for _ in range(3):  # the second and the third have heads that are known
        answer = served.http.post(path, content=encode(asked), headers=headers)
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-request-id"] == "mine"
        assert decode(answer.content) == {
            "model_name": "numbers",
            "model_version": "1",
            "prediction": [2, 3],
        }


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/models/nobody/predict", {"input_data": [1]}, 404, "model_not_found"),
        ("/models/numbers/versions/9/predict", {"input_data": [1]}, 404, "version_not_found"),
        ("/models/..%2fnumbers/predict", {"input_data": [1]}, 404, "not_found"),
        ("/models/%00/predict", {"input_data": [1]}, 404, "model_not_found"),
        ("/models//predict", {"input_data": [1]}, 404, "not_found"),
        ("/models/numbers/predict", {"input_data": [1], "model_name": "x"}, 422, "invalid_input"),
        ("/models/numbers/predict", {"input": [1]}, 422, "invalid_input"),
        ("/models/numbers/predict", {"input_data": ["x"]}, 422, "invalid_input"),
        (
            "/models/numbers/versions/1/predict",
            {"input_data": [1], "model_version": "2"},
            422,
            "invalid_input",
        ),
    ],
)
def test_an_address_that_is_wrong(
    served: Server, path: str, body: object, status: int, code: str
) -> None:
    request = request_bytes(json.dumps(body).encode(), path=path)
    answer = ask(served.url, request)
    assert (answer.status, answer.json["code"]) == (status, code)


def test_only_post_asks(served: Server) -> None:
    answer = served.http.get("/models/numbers/predict")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize("kind", ["image/png", "application/octet-stream", "Image/PNG; a=b"])
def test_a_file_is_sent_as_it_is(served: Server, kind: str) -> None:
    for size in (len(PNG), 700_000):
        body = (PNG * (1 + size // len(PNG)))[:size]
        answer = served.http.post(
            "/models/files/predict?timeout_s=20&priority=high",
            content=body,
            headers={"content-type": kind},
        )
        assert answer.json()["prediction"] == [f"{size} 89504e47"]
        assert answer.headers["content-type"] == "application/json"


def test_a_text_is_sent_as_it_is(served: Server) -> None:
    for headers, body in (
        ({}, "Zoë".encode()),
        ({"content-encoding": "gzip"}, gzip.compress("Zoë".encode())),
    ):
        answer = served.http.post(
            "/models/texts/predict", content=body, headers={"content-type": "text/plain", **headers}
        )
        assert answer.json()["prediction"] == [3]
    for charset, status in (("UTF-8", 200), ("utf-16le", 415), ("iso-8859-1", 415)):
        kind = {"content-type": f"text/plain; charset={charset}"}
        answer = served.http.post("/models/texts/predict", content=b"abcd", headers=kind)
        assert answer.status_code == status


def test_several_files_are_sent_in_a_form(served: Server) -> None:
    answer = served.http.post(
        "/models/files/predict",
        files=[("file", ("a.png", PNG)), ("file", ("b.png", b"abcd"))],
        data={"timeout_s": "20", "priority": "high"},
    )
    assert answer.json()["prediction"] == [f"{len(PNG)} 89504e47", "4 61626364"]
    assert served.metric("modelyard_batch_size_sum", model="files") >= 2


def test_a_form_as_curl_sends_it(served: Server, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    done = subprocess.run(
        ["curl", "-s", f"{served.url}/models/files/predict", "-F", f"file=@{tmp_path}/a.png"],
        capture_output=True,
        check=True,
    )
    assert json.loads(done.stdout)["prediction"] == [f"{len(PNG)} 89504e47"]


def test_the_instance_that_the_model_refuses_is_named(served: Server) -> None:
    answer = served.http.post("/models/files/predict", files=[("f", ("a", PNG)), ("f", ("b", b""))])
    assert (answer.status_code, answer.json()["where"]) == (422, "$.input_data[1]")
    assert answer.json()["detail"] == "an empty file"


FORM = b'--x\r\ncontent-disposition: form-data; name="a"; filename="a"\r\n\r\nabc\r\n--x--\r\n'


@pytest.mark.parametrize(
    ("kind", "query", "body", "status"),
    [
        ("multipart/form-data; boundary=x", "", FORM, 200),
        ("multipart/form-data; boundary=x", "", FORM[:-8], 400),
        ("multipart/form-data; boundary=y", "", FORM, 400),
        ("multipart/form-data", "", FORM, 400),
        ("multipart/form-data; boundary=x", "", b"--x--\r\n", 422),
        ("multipart/form-data; boundary=x", "", FORM.replace(b'; filename="a"', b""), 422),
        ("image/png", "?timeout_s=none", PNG, 400),
        ("image/png", "?timeout_s=-1", PNG, 400),
        ("image/png", "?colour=red", PNG, 422),
        ("image/png", "?priority=urgent", PNG, 422),
        ("application/x-www-form-urlencoded", "", b"a=b", 415),
    ],
)
def test_what_is_no_file(served: Server, kind: str, query: str, body: bytes, status: int) -> None:
    answer = served.http.post(
        f"/models/files/predict{query}", content=body, headers={"content-type": kind}
    )
    assert answer.status_code == status, answer.text


def test_a_file_for_a_model_that_takes_none(served: Server) -> None:
    answer = served.http.post(
        "/models/numbers/predict", content=PNG, headers={"content-type": "image/png"}
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")
    assert "application/json" in answer.json()["detail"]
    answer = served.http.post("/predict", content=PNG, headers={"content-type": "image/png"})
    assert answer.status_code == 415
    assert "/models/NAME/predict" in answer.json()["detail"]


def test_a_timeout_over_the_maximum_is_capped_and_the_answer_says_so(served: Server) -> None:
    for asked_s, said in ((20, None), (1000, "300")):
        answer = served.predict("numbers", [1], timeout_s=asked_s)
        assert answer.status_code == 200
        assert answer.headers.get("x-timeout-s") == said
