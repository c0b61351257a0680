"""What a job's homes and data centers do, asked for while it runs."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from e2e.cluster import Kubectl, wait, window
from e2e.conftest import FEW_PODS
from e2e.test_training import start
from elf_operator import identities
from elf_worker.contract import FIGURES_PORT, FIGURES_TOKEN_HEADER

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def elf(kubectl: Kubectl, *args: str) -> Any:
    where = ["--context", kubectl.context, "--namespace", kubectl.namespace, "-o", "json"]
    command = [sys.executable, "-m", "elf_cli", *args, *where]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def metrics(kubectl: Kubectl, job: str, pod: str) -> str:
    """What a data center shows to who has the job's token."""
    secret = identities.figures_name(job, kubectl.job(job)["metadata"]["uid"])
    token = base64.b64decode(kubectl.get("secret", secret)["data"][identities.TOKEN_KEY]).decode()
    path = f"/api/v1/namespaces/{kubectl.namespace}/pods/https:{pod}:{FIGURES_PORT}/proxy/metrics"
    with pytest.raises(AssertionError, match="401"):
        window(kubectl.context).text(path)
    return window(kubectl.context).text(path, {FIGURES_TOKEN_HEADER: token})


def test_a_running_job_tells_of_its_homes(kubectl: Kubectl, sample: Callable[..., dict[str, Any]]) -> None:
    start(kubectl, sample(rounds=100000, target=None, homes=FEW_PODS), until_round=5)
    stats = elf(kubectl, "stats", "digits")
    assert stats["lastRound"]["homes"] == {"served": 12, "failed": {}}
    assert {index: mdc["homes"]["served"] for index, mdc in stats["mdcs"].items()} == {"0": 4, "1": 4, "2": 4}
    assert stats["total"]["homes"]["served"] == 12 * stats["round"]
    everyone = elf(kubectl, "homes", "digits", "--loss-between", "0", "1000")
    assert (everyone["count"], everyone["homes"]) == (12, list(range(12)))
    assert elf(kubectl, "trace", "digits", "--round", "3")["slowest"]["seconds"] > 0
    assert elf(kubectl, "trace", "digits", "--home", "7")["asked"]["7"]["home"] == 7
    text = metrics(kubectl, "digits", "digits-mdc-1-0")
    figures = {f.name: f for f in text_string_to_metric_families(text)}
    assert figures["elf_homes_assigned"].samples[0].value == 4
    said = wait(
        "a summary in the status", lambda: kubectl.job("digits")["status"]["training"].get("statistics"), 30
    )
    assert said["homes"] == "12 served"
