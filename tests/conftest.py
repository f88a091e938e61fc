"""A broker that tests share, and the end of what a test starts.

Tests that break their broker start their own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.support.broker import Broker, RunningBroker
from tests.support.rabbitmq import URL_VARIABLE, release_at, strict_config
from tests.support.server import IS_INSIDE

LEFT_OUT = pytest.StashKey[list[str]]()
RELEASE = pytest.StashKey[str]()


@pytest.fixture(scope="session")
def shared_broker(
    tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Iterator[Broker]:
    """A real RabbitMQ; where lines are counted, the simulator's."""
    with ExitStack() as stack:
        if IS_INSIDE:
            from tests.support.inside import Broker as Simulated

            yield stack.enter_context(Simulated())  # type: ignore[misc]
            return
        if url := os.environ.get(URL_VARIABLE):
            broker: Broker = RunningBroker(url)
        else:
            folder = tmp_path_factory.mktemp("broker")
            broker = stack.enter_context(Broker(folder, more_config=strict_config()))
        pytestconfig.stash[RELEASE] = release_at(broker.url)
        yield broker


@pytest.fixture(scope="module")
def broker(shared_broker: Broker) -> Broker:
    """A real RabbitMQ, at which gateways of this module know no model of others."""
    shared_broker.forget_targets()
    return shared_broker


@pytest.fixture(scope="session", autouse=True)
def own_state(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Servers keep what they know in a folder of the tests: a user's may be of another release."""
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs more of a broker than an address, if that is all we have."""
    if URL_VARIABLE not in os.environ and not IS_INSIDE:
        return
    left_out = [item for item in items if item.get_closest_marker("own_broker")]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)
    config.stash[LEFT_OUT] = [item.nodeid for item in left_out]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say which release the tests saw, and name what was left out."""
    if release := config.stash.get(RELEASE, ""):
        terminalreporter.section(f"the broker: {release}")
    if left_out := config.stash.get(LEFT_OUT, []):
        terminalreporter.section(f"not run: they need the processes of the broker ({URL_VARIABLE})")
        for name in left_out:
            terminalreporter.write_line(name)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Ends what a test has started."""
    with ExitStack() as stack:
        yield stack
