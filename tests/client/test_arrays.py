"""Arrays from the client to served models and back: dtype and shape arrive as they were sent."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from modelyard.client import InvalidInput
from tests.client.either import Connect
from tests.e2e.test_odd_models import write
from tests.support.server import ROOT, Server, wait_until

IMAGE = """\
from typing import Annotated
import numpy as np
from modelyard import Model, Tensor

class Served(Model):
    example = np.zeros((1, 2, 3), dtype="float32")

    def predict(
        self, instances: Annotated[np.ndarray, Tensor("float32", (2, 3))]
    ) -> Annotated[np.ndarray, Tensor("float64", (2,))]:
        return instances.sum(axis=2, dtype="float64")
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = write(tmp_path_factory.mktemp("models") / "image", IMAGE)
    with Server(folder, ROOT / "models" / "fast_iris_model") as server:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the models")
        yield server


IMAGES = np.arange(30, dtype="float32").reshape(5, 2, 3)


@pytest.mark.parametrize(
    "images", [IMAGES, IMAGES.astype(">f4"), np.asfortranarray(IMAGES), IMAGES.astype("i2")]
)
def test_an_array_is_answered_with_an_array(
    connect: Connect, server: Server, images: np.ndarray
) -> None:
    with connect(server.url) as client:
        sums = client.predict("image", images)
        assert (sums.dtype, sums.shape) == (np.dtype("float64"), (5, 2))
        assert np.array_equal(sums, IMAGES.sum(axis=2))
        assert np.array_equal(client.predict("image", list(images)), sums)
        assert client.predict("image", IMAGES.tolist()) == sums.tolist()


def test_a_large_array_gets_through(connect: Connect, server: Server) -> None:
    images = np.ones((200_000, 2, 3), dtype="float32")
    with connect(server.url) as client:
        assert np.array_equal(client.predict("image", images), np.full((200_000, 2), 3.0))


def test_numbers_that_would_lose_something_are_refused(connect: Connect, server: Server) -> None:
    with connect(server.url) as client, pytest.raises(InvalidInput, match="float64"):
        client.predict("image", IMAGES.astype("float64"))


def test_an_array_reaches_a_model_of_lists(connect: Connect, server: Server) -> None:
    flowers = np.array([[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]])
    with connect(server.url) as client:
        assert client.predict("fast_iris_model", flowers) == [0, 2]
        with pytest.raises(InvalidInput):
            client.predict("fast_iris_model", flowers[:, :3])
