"""docs/operations.md knows every alert, and only reasons that there are."""

from __future__ import annotations

import re

from documents import ROOT

PAGE = (ROOT / "docs/operations.md").read_text()
RULES = (ROOT / "charts/elf-training-operator/templates/prometheusrule.yaml").read_text()
CODE = [
    path.read_text()
    for part in ("operator/elf_operator", "worker_image/elf_worker")
    for path in sorted((ROOT / part).rglob("*.py"))
]


def section(heading: str) -> str:
    """From this heading to the next of its level."""
    return PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def test_every_alert_has_its_section_and_there_are_no_others() -> None:
    alerts = re.findall(r"- alert: (\w+)", RULES)
    assert len(alerts) >= 9
    assert re.findall(r"^### (\w+)$", section("Alerts"), re.M) == alerts


def test_reasons_are_those_of_the_code() -> None:
    table = section("A job does not do what it should")
    seen = [row.split("|")[1] for row in table.splitlines() if row.startswith("|")]
    reasons = {reason for cell in seen for reason in re.findall(r"`([A-Z]\w+)`", cell)}
    assert len(reasons) >= 15
    missing = {r for r in reasons if not any(f'"{r}"' in text for text in CODE)}
    assert not missing


def test_what_a_pod_asks_for_is_what_it_gets() -> None:
    from elf_operator.podbuilder import RESOURCES
    from elf_worker.contract import Role

    rows = {
        cells[0]: cells[1:]
        for row in section("How large").splitlines()
        if (cells := [c.strip() for c in row.strip("|").split("|")]) and len(cells) == 4
    }
    for name, role in (("NPDC", Role.NPDC), ("MDC", Role.MDC), ("home's pod", Role.HOME)):
        wants = RESOURCES[role]
        assert rows[name] == [
            wants["requests"]["cpu"],
            wants["requests"]["memory"],
            wants["limits"]["memory"],
        ]
    values = (ROOT / "charts/elf-training-operator/values.yaml").read_text()
    assert all(f": {figure}\n" in values for figure in rows["operator"])
