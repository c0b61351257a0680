"""The operator takes the arguments and the environment that the chart gives it."""

from __future__ import annotations

from typing import Any

import pytest

from elf_operator.__main__ import _parser
from unit.chart.rendered import Chart

COMBINATIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "defaults": (
        {},
        {
            "listen": ("0.0.0.0", 8080),
            "lease": ("elf-system", "elf-elf-training-operator"),
            "log_format": "json",
            "verbose": False,
            "namespace": None,
            "worker_image": "ghcr.io/northpole-dev/elf-worker:0.1.0",
            "pull_policy": "IfNotPresent",
            "network_policies": True,
            "figures_from": [],
        },
    ),
    "much": (
        {
            "listen": {"address": "[::]", "port": 9000},
            "log": {"level": "debug", "format": "text"},
            "watch": {"namespaces": ["a", "b"]},
            "jobs": {"figuresFrom": [{"podSelector": {"matchLabels": {"app": "prometheus"}}}]},
            "worker": {"image": {"repository": "here/w", "tag": "1", "pullPolicy": "Always"}},
        },
        {
            "listen": ("::", 9000),
            "log_format": "text",
            "verbose": True,
            "namespace": ["a", "b"],
            "worker_image": "here/w:1",
            "pull_policy": "Always",
            "figures_from": [{"podSelector": {"matchLabels": {"app": "prometheus"}}}],
        },
    ),
}


@pytest.mark.parametrize("case", COMBINATIONS)
def test_the_operator_understands(chart: Chart, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    values, expected = COMBINATIONS[case]
    world = chart.render(values)
    for name, value in world.env.items():
        if isinstance(value, str):
            monkeypatch.setenv(name, value)
    args = vars(_parser().parse_args(world.container["args"]))
    assert {key: args[key] for key in expected} == expected
    assert world.env["ELF_POD_NAME"] == {"fieldRef": {"fieldPath": "metadata.name"}}
