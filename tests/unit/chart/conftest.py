"""Needs helm; see tests/helm.py."""

from __future__ import annotations

import pytest

from helm import found_or_skipped
from unit.chart.rendered import Chart


@pytest.fixture(scope="session")
def helm() -> str:
    return found_or_skipped()


@pytest.fixture(scope="session")
def chart(helm: str) -> Chart:
    return Chart(helm)
