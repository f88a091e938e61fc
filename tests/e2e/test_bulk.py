"""Bulk runs, as a caller has them: files of rows in, files of predictions out."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from openai import OpenAI
from pyarrow import feather, parquet

from modelyard.client import AsyncClient, Client, Conflict, UnexpectedAnswer
from tests.e2e.conftest import TRICK
from tests.support.bulk import end_leases, ended, fetch, lines_of, rows_done, send
from tests.support.chatting import write_chatting
from tests.support.jobs import Store
from tests.support.keys import Keys
from tests.support.server import MODELYARD, ROOT, Server, wait_until

IRIS = "fast_iris_model"
NAMES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
FLOWERS = [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3], [5.9, 3.0, 4.2, 1.5]] * 50
SPECIES = [0, 2, 1] * 50


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("bulk")
    settings = {
        **Store(folder / "state").settings,
        "MODELYARD_BULK_INPUT_URLS": "https://data.example.com/in,s3://bucket/rows/",
        "MODELYARD_MAX_BULK_MB": "1",
    }
    models = [TRICK, ROOT / "models" / IRIS, write_chatting(folder / "models")]
    with Server(*models, settings=settings) as server:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the models")
        yield server


@pytest.fixture(scope="module")
def flowers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same rows in all formats: with a column that the model does not take."""
    folder, table = tmp_path_factory.mktemp("flowers"), {"id": range(len(FLOWERS))}
    frame = pd.DataFrame({**table, **pd.DataFrame(FLOWERS, columns=NAMES)})
    frame.to_csv(folder / "flowers.csv", index=False)
    (folder / "flowers.jsonl").write_bytes(lines_of(frame.to_dict(orient="records")))
    parquet.write_table(pa.Table.from_pandas(frame), folder / "flowers.parquet", row_group_size=40)
    feather.write_feather(frame, folder / "flowers.arrow", compression="uncompressed")
    return {path.suffix[1:]: path for path in folder.iterdir()}


def test_rows_are_answered_in_order_and_those_that_cannot_be_are_set_aside(
    server: Server,
) -> None:
    rows: list[Any] = [{"nonce": nonce} for nonce in range(100)]
    rows[7] = {"nonce": 7, "act": "nonsense"}
    rows[20] = rows[21] = {"nonce": 20, "act": "raise"}
    rows[40] = {"no": "nonce"}
    rows[99] = "no object"
    content = lines_of(rows).replace(b'{"nonce": 60}', b'{"nonce": 60') + b"\n\n"
    answer = send(server.http, content)
    assert answer.status_code == 202, answer.text
    batch = answer.json()["id"]
    assert answer.headers["location"] == f"/batches/{batch}"
    found = ended(server.http, batch)
    bad = {7: "invalid_input", 20: "model_failed", 21: "model_failed", 40: "invalid_input"}
    bad |= {60: "malformed", 99: "invalid_input"}
    assert found["state"] == "succeeded", found
    assert found["rows"] == {"done": 100, "failed": len(bad), "total": 100}
    assert found["cost"]["instances"] == 94
    assert found["cost"]["model_s"] > 0
    good = [nonce for nonce in range(100) if nonce not in bad]
    assert fetch(server.http, batch) == [{"row": n, "prediction": n * 3 + 1} for n in good]
    failed = fetch(server.http, batch, "errors")
    assert [(one["row"], one["code"]) for one in failed] == list(bad.items())
    assert failed[0]["where"] == "$.act"
    job = server.http.get(f"/jobs/{batch}").json()
    assert (job["state"], job["priority"]) == ("succeeded", -50)
    for asked, status in (("bytes=999999-", 416), ("bytes=19-10", 200)):
        odd = server.http.get(f"/batches/{batch}/output", headers={"range": asked})
        assert odd.status_code == status
    some = {"range": "bytes=10-19"}
    for odd in (
        server.http.head(f"/batches/{batch}/output", headers=some),
        server.http.get(f"/batches/{batch}/output", headers={"if-range": '"x"', **some}),
    ):
        assert odd.status_code == 200
    part = server.http.get(f"/batches/{batch}/output", headers=some)
    whole = server.http.get(f"/batches/{batch}/output").content
    assert (part.status_code, part.content) == (206, whole[10:20])
    assert batch in [one["id"] for one in server.http.get("/batches").json()["batches"]]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [("csv", "csv"), ("jsonl", "parquet"), ("parquet", "arrow"), ("arrow", "csv")],
)
def test_all_formats_give_the_same(
    server: Server, flowers: dict[str, Path], tmp_path: Path, given: Any, wanted: Any
) -> None:
    output = tmp_path / f"out.{wanted}"
    with Client(server.url) as client:
        batch = client.batch(IRIS, flowers[given], output_format=wanted, columns=NAMES, keep=["id"])
        assert batch.wait(60).state == "succeeded", batch.info()
        batch.download(output)
    if wanted == "parquet":
        rows = parquet.read_table(output).to_pylist()
    elif wanted == "arrow":
        rows = pa.ipc.open_stream(output).read_all().to_pylist()
    else:
        rows = [
            {name: int(cell) for name, cell in row.items()}
            for row in csv.DictReader(io.StringIO(output.read_text()))
        ]
    expected = enumerate(SPECIES)
    assert rows == [{"row": n, "id": n, "prediction": one} for n, one in expected]


def test_data_frames_come_back_with_their_predictions(server: Server) -> None:
    frame = pd.DataFrame(FLOWERS, columns=NAMES)
    frame.loc[4, "sepal_width"] = float("nan")
    with Client(server.url) as client:
        batch = client.batch(IRIS, frame)
        made = batch.result(60)
        assert [one.row for one in batch.errors()] == [4]
        expected = [None if row == 4 else one for row, one in enumerate(SPECIES)]
        assert made["prediction"].astype(object).where(
            made["prediction"].notna(), None
        ).tolist() == (expected)
        assert list(made.columns) == [*NAMES, "prediction"]
        polars = client.batch(IRIS, pl.DataFrame(FLOWERS, schema=NAMES, orient="row")).result(60)
        assert polars["prediction"].to_list() == SPECIES
        wrong = client.batch(IRIS, frame.drop(columns="petal_width"))
        assert wrong.result(60)["prediction"].isna().all()
        assert "4" in wrong.errors()[0].detail


async def test_a_fast_model_gets_many_batches_at_a_time_and_each_row_is_answered_once(
    server: Server, tmp_path: Path
) -> None:
    """With asyncio: rows that cannot be answered are in the midst of requests of many batches."""
    count, bad, rows = 20_000, range(7, 20_000, 4999), tmp_path / "rows.csv"
    lines = [",".join(map(str, FLOWERS[n % 3])) for n in range(count)]
    for n in bad:
        lines[n] = "1,2,3"
    rows.write_text("\n".join(lines))
    before = _batches(server, IRIS)
    async with AsyncClient(server.url) as client:
        batch = await client.batch(IRIS, rows, output_format="jsonl")
        info = await batch.wait(60)
        assert (info.rows.done, info.rows.failed) == (count, len(bad)), info
        expected: list[int | None] = [SPECIES[n % 3] for n in range(count)]
        for n in bad:
            expected[n] = None
        assert await batch.result() == expected
        assert [one.row for one in await batch.errors()] == list(bad)
        await batch.download(tmp_path / "out.jsonl")
        assert len((tmp_path / "out.jsonl").read_bytes().splitlines()) == count - len(bad)
        assert (await client.batches(model=IRIS, limit=1))[0].id == batch.id
        with pytest.raises(Conflict):
            await client.find_batch(batch.id).cancel()
    assert _batches(server, IRIS) - before < count / 64


def _batches(server: Server, model: str) -> float:
    """Return how often a runner of a model was handed something."""
    name = "modelyard_model_seconds_count"
    found = server.http.get("/metrics").text.splitlines()
    mine = [one for one in found if one.startswith(name) and f'"{model}"' in one]
    return sum(float(one.rpartition(" ")[2]) for one in mine)


def test_numbers_of_csv_are_read_as_they_are_written(server: Server) -> None:
    """The way of plain numbers, and that of all others, without and with names."""
    plain = "".join(f"{','.join(map(str, row))}\n" for row in FLOWERS)
    quoted = "a,b,c,d\r\n" + "".join(f'"{a}", {b},+{c},{d}\r\n' for a, b, c, d in FLOWERS).replace(
        "5.1", "x", 1
    )
    for content, first in ((plain, 0), ("\ufeff" + quoted, 1), (plain.rstrip("\n"), 0)):
        answer = send(server.http, content.encode(), model=IRIS, format="csv")
        batch = answer.json()["id"]
        assert ended(server.http, batch)["rows"]["failed"] == first
        lines = server.http.get(f"/batches/{batch}/output").text.split()
        assert (
            lines
            == ["row,prediction", *(f"{n},{s}" for n, s in enumerate(SPECIES))][:1]
            + [f"{n},{s}" for n, s in enumerate(SPECIES)][first:]
        )


def test_what_cannot_be_a_run_is_refused(server: Server) -> None:
    rows = lines_of([{"nonce": 1}])
    for asked, status in (
        ({"model": "nobody"}, 404),
        ({"model": ""}, 422),
        ({"version": "9"}, 404),
        ({"format": "xlsx"}, 422),
        ({"id": "../x"}, 422),
    ):
        answer = send(server.http, rows, **asked)
        assert answer.status_code == status, (asked, answer.text)
    assert server.http.post("/batches", content=rows).status_code == 415
    assert send(server.http, b" " * 1_000_001).status_code == 413
    for name in ("output", "errors", "cancel"):
        assert server.http.get(f"/batches/nobody/{name}").status_code in (404, 405)
    first = send(server.http, rows, id="mine")
    again = send(server.http, rows, id="mine")
    assert [one.json()["id"] for one in (first, again)] == ["mine", "mine"]
    assert send(server.http, lines_of([{"nonce": 2}]), id="mine").status_code == 409
    assert ended(server.http, "mine")["state"] == "succeeded"
    for content, kind, why in (
        (b"a,b\n1,2\n", "csv", "4 values"),
        (b"", "csv", "empty"),
        (b"PAR1 and nothing else", "parquet", "no parquet file"),
        (b"nothing", "arrow", "no arrow file"),
    ):
        batch = send(server.http, content, model=IRIS, format=kind).json()["id"]
        found = ended(server.http, batch)
        assert (found["state"], found["error"]["code"]) == ("failed", "invalid_input"), found
        assert why in found["error"]["detail"]
        assert server.http.get(f"/batches/{batch}/output").status_code == 409


@pytest.mark.parametrize(
    "url",
    [
        "/etc/passwd",
        "file:///etc/passwd",
        "local:///etc/passwd",
        "memory://x.csv",
        "http://127.0.0.1/x.csv",
        "https://169.254.169.254/latest/meta-data.csv",
        "https://data.example.com.evil.com/in/x.csv",
        "https://data.example.com/in/../x.csv",
        "https://data.example.com/in/%2e%2e/x.csv",
        "https://data.example.com/inner/x.csv",
        "https://data.example.com/in/x.csv?next=1",
        "https://user@data.example.com/in/x.csv",
        "zip://x.csv::https://data.example.com/in/x.zip",
        "s3://bucket/rows/x.csv::file:///etc/passwd",
        "s3://bucket/rowsx.csv",
    ],
)
def test_an_input_lies_nowhere_but_where_the_operator_says(server: Server, url: str) -> None:
    asked = {"model_name": IRIS, "input_url": url, "format": "csv"}
    answer = server.http.post("/batches", json=asked)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input"), answer.text
    asked = {**asked, "input_url": "s3://bucket/rows/x.csv", "output_url": "s3://bucket/rows/y"}
    assert server.http.post("/batches", json=asked).status_code == 422


def test_a_run_goes_on_where_a_server_was_killed_and_is_cancelled_by_hand(
    tmp_path: Path,
) -> None:
    """By the command, which is killed as well: run again, it fetches what was made meanwhile."""
    settings, diary = Store(tmp_path).settings, tmp_path / "diary"
    url = f"sqlite:///{tmp_path}/modelyard.db"
    trick = {"act": "work", "seconds": 0.008, "diary": str(diary)}
    count = 400
    rows = tmp_path / "rows.jsonl"
    rows.write_bytes(lines_of({"nonce": nonce, **trick} for nonce in range(count)))
    with Server(TRICK, settings=settings) as first:
        wait_until(lambda: first.http.get("/readyz").status_code == 200, what="the model")
        command: list[str | Path] = [
            MODELYARD,
            "batch",
            "trick_model",
            rows,
            tmp_path / "out.jsonl",
            "--url",
        ]
        with subprocess.Popen(
            [*command, first.url], stderr=subprocess.DEVNULL, env={**os.environ}
        ) as asking:
            note = tmp_path / "out.jsonl.batch.json"
            batch = wait_until(lambda: note.exists() and json.loads(note.read_text()), what="it")[
                "id"
            ]
            wait_until(lambda: rows_done(url, batch) > 0, what="some rows")
            asking.kill()
        first.process.kill()
        first.process.wait()
    kept = rows_done(url, batch)
    assert 0 < kept < count
    end_leases(url)
    with Server(TRICK, settings=settings) as second:
        wait_until(lambda: second.http.get("/readyz").status_code == 200, what="the model")
        done = subprocess.run([*command, second.url], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert f"going on with {batch}" in done.stderr
        assert f"{count} predictions" in done.stdout
        assert second.http.get(f"/jobs/{batch}").json()["attempts"] == 2
        output = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
        assert output == [{"row": n, "prediction": n * 3 + 1} for n in range(count)]
        ran = Counter(map(int, diary.read_text().split()))
        assert all(ran[nonce] == 1 for nonce in range(kept))
        assert not note.exists()
        waiting = {"nonce": 1, "act": "wait", "diary": f"{diary}2"}
        batch = send(second.http, lines_of([waiting] * 40)).json()["id"]
        wait_until(Path(f"{diary}2").exists, what="it to run")
        assert second.http.post(f"/batches/{batch}/cancel").json()["state"] == "cancelled"
        Path(f"{diary}2.go").touch()
        assert second.http.post(f"/batches/{batch}/cancel").status_code == 409
        assert second.http.get(f"/batches/{batch}/output").status_code == 409


def test_the_command_says_what_is_wrong(server: Server, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("a,b,c,d\n5.1,3.5,1.4,0.2\n5.1,x,1.4,0.2\n")
    output = tmp_path / "out.csv"

    def run(*arguments: Any) -> subprocess.CompletedProcess[str]:
        command = [MODELYARD, "batch", *map(str, arguments), "--url", server.url]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    kept = rows.read_text()
    done = run(IRIS, rows, output)
    assert done.returncode == 3, done.stderr
    assert "row 1: invalid_input: 'x' is no number" in done.stderr
    assert output.read_text().split() == ["row,prediction", "0,0"]
    assert Path(f"{output}.errors.jsonl").exists()
    for arguments, why in (
        ((IRIS, "nowhere.csv", output), "no file"),
        ((IRIS, rows, "out.xlsx"), "say its format"),
        ((IRIS, rows, rows), "is the input"),
        ((IRIS, rows, output, "--columns", "a,b"), "4 values"),
        (("nobody", rows, output), "model_not_found"),
    ):
        done = run(*arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert why in done.stderr
        assert "Traceback" not in done.stderr
    assert rows.read_text() == kept


def test_openais_client_makes_batches(server: Server, tmp_path: Path) -> None:
    def line(number: int, words: str, **more: Any) -> dict[str, Any]:
        body = {"model": "parrot", "messages": [{"role": "user", "content": words}]}
        url = "/v1/chat/completions"
        asked = {"custom_id": f"r{number}", "method": "POST", "url": url, "body": body}
        return {**asked, **more}

    rows = [line(number, f"word {number}") for number in range(30)]
    rows[3] = line(3, "raise it")
    rows[4] = line(4, "x", url="/v1/embeddings")
    rows[5]["body"]["model"] = "writer"
    rows[6]["body"]["model"], rows[7]["body"]["model"] = "parrot@1", "parrot@7"
    path = tmp_path / "requests.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + lines_of(rows))
    with OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        file = client.files.create(file=path, purpose="batch")
        assert (file.filename, file.bytes) == ("requests.jsonl", path.stat().st_size)
        assert client.files.retrieve(file.id).purpose == "batch"
        assert client.files.content(file.id).content == path.read_bytes()
        batch = client.batches.create(
            input_file_id=file.id,
            endpoint="/v1/chat/completions",
            completion_window="24h",
            metadata={"of": "mine"},
        )
        found = wait_until(
            lambda: (one := client.batches.retrieve(batch.id)).status == "completed" and one,
            what="the batch",
        )
        counts = found.request_counts
        assert (counts.total, counts.completed, counts.failed) == (30, 26, 4)
        assert (found.metadata, found.input_file_id) == ({"of": "mine"}, file.id)
        answers = [
            json.loads(one) for one in client.files.content(found.output_file_id).iter_lines()
        ]
        assert [one["custom_id"] for one in answers] == [
            f"r{number}" for number in range(30) if number not in (3, 4, 5, 7)
        ]
        chat = answers[0]["response"]["body"]
        assert (chat["object"], chat["model"]) == ("chat.completion", "parrot")
        assert chat["choices"][0]["message"]["content"] == "word 0"
        failed = [json.loads(one) for one in client.files.content(found.error_file_id).iter_lines()]
        assert [(one["custom_id"], one["response"]["status_code"]) for one in failed] == [
            ("r3", 502),
            ("r4", 422),
            ("r5", 422),
            ("r7", 404),
        ]
        for _ in range(3):  # other runs are not the API's, and hide none of its batches
            send(server.http, lines_of([{"nonce": 1}]))
        assert [one.id for one in client.batches.list(limit=2)] == [batch.id]
        with pytest.raises(openai.ConflictError, match="is completed already"):
            client.batches.cancel(batch.id)
        assert client.files.delete(found.error_file_id).deleted
        with pytest.raises(openai.NotFoundError):
            client.files.content(found.error_file_id)
        with pytest.raises(openai.UnprocessableEntityError):
            client.files.create(file=path, purpose="assistants")
        with pytest.raises(openai.NotFoundError):
            client.files.retrieve("file-of-nobody")
        others = [client.files.create(file=path, purpose="batch").id for _ in range(4)]
        assert [one.id for one in client.files.list(limit=2)] == [*reversed(others), file.id]
        assert next(iter(client.files.list(limit=2, order="asc"))).id == file.id
        assert not client.files.list(purpose="vision").data
        with pytest.raises(openai.UnprocessableEntityError) as refused:
            client.files.list(limit=0)
        assert (refused.value.param, refused.value.code) == ("limit", "invalid_input")
        assert client.files.delete(file.id).deleted
        texts = [
            {
                "custom_id": str(n),
                "method": "POST",
                "url": "/v1/embeddings",
                "body": {"model": "embedder", "input": ["a" * n, "b"]},
            }
            for n in range(5)
        ]
        file = client.files.create(file=lines_of(texts), purpose="batch")
        made = client.batches.create(
            input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h"
        )
        ended(server.http, made.id.removeprefix("batch_"))
        output = client.batches.retrieve(made.id).output_file_id
        assert output is not None
        vectors = json.loads(client.files.content(output).text.splitlines()[3])
        assert vectors["response"]["body"]["data"][0]["embedding"] == [3.0, 3.0, 0.5]


def test_predictions_are_read_from_json_lines_alone(
    server: Server, flowers: dict[str, Path]
) -> None:
    with Client(server.url) as client:
        batch = client.batch(IRIS, flowers["csv"], columns=NAMES)
        with pytest.raises(UnexpectedAnswer, match="download"):
            batch.result(60)


def test_what_cannot_be_a_batch_of_requests_is_refused(server: Server) -> None:
    def upload(*files: bytes, **fields: str) -> httpx.Response:
        parts = [("file", ("requests.jsonl", content)) for content in files]
        more = [(name, (None, text)) for name, text in fields.items()]
        return server.http.post("/v1/files", files=[*parts, *more])

    def make(body: Any) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return server.http.post("/v1/batches", content=content)

    batch = {"purpose": "batch"}
    for answer, status, why in (
        (server.http.post("/v1/files", content=b"{}"), 415, "multipart/form-data"),
        (upload(**batch), 422, "no file"),
        (upload(b"{}", b"{}", **batch), 400, "more than one file"),
        (upload(b"{}", purpose="x" * 70_000), 400, "too long"),
        (upload(b"{}", **batch, **{f"field{n}": "" for n in range(99)}), 400, "100 parts"),
        (make(b"{"), 400, "no JSON"),
        (make([]), 422, "expected"),
        (make({"input_file_id": "file-1", "endpoint": "/v1/audio"}), 422, "/v1/embeddings"),
    ):
        assert answer.status_code == status, answer.text
        assert why in answer.json()["error"]["message"].lower() or why in answer.text
    for content in (b"", b"nonsense", b"[]", b"\xff\n", b'{"custom_id":"a","body":{}}\n'):
        file = upload(content, **batch).json()["id"]
        answer = make({"input_file_id": file, "endpoint": "/v1/completions"})
        assert (answer.status_code, answer.json()["error"]["param"]) == (422, "input_file_id")
    assert server.http.get("/v1/files/batch_nobody_output").status_code == 404


def test_lines_that_cannot_be_asked_fail_alone_with_what_is_wrong(server: Server) -> None:
    def line(name: str, model: str, url: str = "/v1/completions", **more: Any) -> bytes:
        body = {"model": model, "prompt": "abc", **more}
        return lines_of([{"custom_id": name, "method": "POST", "url": url, "body": body}])

    lines = [
        line("right", "writer"),
        line("pieces", "writer", stream=True),
        line("another", "typist"),
        b"nonsense\n",
        b"[]\n",
        line("many", "writer", prompt=["ab", "cd"]),
    ]
    with OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        file = client.files.create(file=b"".join(lines), purpose="batch")
        made = client.batches.create(
            input_file_id=file.id, endpoint="/v1/completions", completion_window="24h"
        )
        ended(server.http, made.id.removeprefix("batch_"))
        found = client.batches.retrieve(made.id)
        assert found.output_file_id
        assert found.error_file_id
        output = client.files.retrieve(found.output_file_id)
        content = client.files.content(output.id).content
        assert (output.purpose, output.bytes) == ("batch_output", len(content))
        answered = [json.loads(one) for one in content.splitlines()]
        right, many = (one["response"]["body"] for one in answered)
        assert [choice["text"] for choice in many["choices"]] == ["ba", "dc"]
        assert right["choices"][0]["text"] == "cba"
        failed = [json.loads(one) for one in client.files.content(found.error_file_id).iter_lines()]
        assert [(one["custom_id"], one["response"]["status_code"]) for one in failed] == [
            ("pieces", 422),
            ("another", 422),
            ("", 400),
            ("", 422),
        ]
        run = made.id.removeprefix("batch_")
        assert [one["id"] for one in answered + failed] == [
            f"batch_req_{run}-{line}" for line in (0, 5, 1, 2, 3, 4)
        ]
        assert client.files.delete(output.id).deleted
        for ask in (client.files.retrieve, client.files.content, client.files.delete):
            with pytest.raises(openai.NotFoundError):
                ask(output.id)


def test_a_run_is_seen_by_its_owner(tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    mine = keys.create("mine", "predict:trick_model", owner="we")
    other = keys.create("other", "predict:trick_model", owner="they")
    none = keys.create("none", "predict:something", owner="we")
    with Server(TRICK, settings=keys.settings) as server:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the model")

        def ask(key: str, path: str) -> int:
            return server.http.get(path, headers={"x-api-key": key}).status_code

        rows, asked = lines_of([{"nonce": 1}]), {"model": "trick_model", "format": "jsonl"}

        def make(key: str) -> Any:
            headers = {"x-api-key": key}
            return server.http.post("/batches", params=asked, content=rows, headers=headers)

        assert make("").status_code == 401
        assert make(none).status_code == 404
        batch = make(mine).json()
        assert batch["owner"] == "we"
        path = f"/batches/{batch['id']}"
        wait_until(lambda: ask(mine, f"{path}/output") == 200, what="the output")
        for what in ("", "/output", "/errors"):
            assert [ask(key, path + what) for key in (mine, other, none)] == [200, 404, 404]
        with OpenAI(base_url=f"{server.url}/v1", api_key=mine) as client:
            file = client.files.create(file=rows, purpose="batch")
        assert [ask(key, f"/v1/files/{file.id}") for key in (mine, other)] == [200, 404]
