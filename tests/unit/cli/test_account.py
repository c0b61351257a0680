"""Who died, when, and how long it took to be well again."""

from __future__ import annotations

from elf_cli.local.account import Account
from elf_operator.status import Replacement

BEGAN = 1000.0
MDC = "sleigh-mdc-1-0"


def row(account: Account, index: int = 0) -> dict[str, object]:
    return account.rows()[index]


def replaced(time: float, recovery: float | None = None, pod: str = MDC) -> Replacement:
    return Replacement(pod, "ContainerKilled", "m", time, recovery)


def test_progress_is_noted_once() -> None:
    account = Account(BEGAN)
    account.sample(1001.0, {"round": 1, "loss": "0.5", "metrics": {}})
    account.sample(1001.2, {"round": 1, "loss": "0.5", "metrics": {}})
    account.sample(1001.5, {"round": 1, "loss": "0.5", "metrics": {"f1": "0.9"}})
    account.sample(1002.0, {"round": 2, "loss": "0.4", "metrics": {"f1": "0.9"}})
    assert [(s["seconds"], s["round"]) for s in account.samples] == [(1.0, 1), (1.5, 1), (2.0, 2)]
    assert account.samples[1] == {"seconds": 1.5, "round": 1, "loss": 0.5, "metrics": {"f1": 0.9}}


def test_what_is_no_number_is_none() -> None:
    account = Account(BEGAN)
    account.sample(1001.0, {})
    account.sample(1002.0, {"round": 1, "loss": "nan", "metrics": {"f1": "inf"}})
    assert account.samples[0] == {"seconds": 1.0, "round": 0, "loss": None, "metrics": {}}
    assert account.samples[1]["loss"] is None and account.samples[1]["metrics"] == {"f1": None}


def test_a_death_and_what_followed() -> None:
    account = Account(BEGAN)
    account.died(1010.0, MDC, "--kill mdc/1@round:3", 3)
    assert row(account) == {
        "pod": MDC,
        "cause": "--kill mdc/1@round:3",
        "atSeconds": 10.0,
        "atRound": 3,
        "successor": None,
        "noticedAfter": None,
        "servingAfter": None,
        "nextRoundAfter": None,
    }
    account.replaced(replaced(1010.25), "sleigh-mdc-1-1")
    assert (row(account)["noticedAfter"], row(account)["servingAfter"]) == (0.25, None)
    account.replaced(replaced(1010.25, 1.5), "sleigh-mdc-1-1")
    assert (row(account)["successor"], row(account)["servingAfter"]) == ("sleigh-mdc-1-1", 1.75)


def test_the_next_round_is_the_first_after_the_death() -> None:
    account = Account(BEGAN)
    account.died(1010.0, MDC, "c", 3)
    account.sample(1011.0, {"round": 3})
    assert row(account)["nextRoundAfter"] is None
    account.sample(1012.0, {"round": 4})
    account.sample(1013.0, {"round": 5})
    assert row(account)["nextRoundAfter"] == 2.0


def test_deaths_are_told_apart_by_their_pod() -> None:
    account = Account(BEGAN)
    account.died(1010.0, MDC, "c", 3)
    account.died(1011.0, "sleigh-home-0", "exit code 1", 3)
    account.replaced(replaced(1010.5, 1.0), "sleigh-mdc-1-1")
    assert [r["successor"] for r in account.rows()] == ["sleigh-mdc-1-1", None]


def test_a_clock_that_lags_gives_no_negative_time() -> None:
    account = Account(BEGAN)
    account.died(1010.0, MDC, "c", 3)
    account.replaced(replaced(1009.5), "sleigh-mdc-1-1")
    assert row(account)["noticedAfter"] == 0.0
