"""Settings of all tests."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# Tests run side by side, on small tensors: threads of PyTorch would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples each time, wherever it runs: a red build is red for everyone.
settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.load_profile("repeatable")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--context", help="kubeconfig context of a cluster that may be tested on")


@pytest.fixture(scope="session")
def context(request: pytest.FixtureRequest) -> str:
    """The cluster that tests marked e2e may change."""
    name = request.config.getoption("--context")
    if not name:
        pytest.exit("these tests need --context NAME, a kubeconfig context they may change", returncode=4)
    return str(name)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The benches bring operators of their own: they come before an operator is installed for tests/e2e."""
    items.sort(key=lambda item: "control_plane" not in item.path.parts)
