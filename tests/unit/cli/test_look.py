"""`elf stats`, `homes`, `trace`, `plot` and `check-statistic` on what a run left behind."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from elf_cli.figures import read_history
from elf_cli.main import app
from elf_worker import statistics
from elf_worker.aggregation.northpole import RoundLog
from elf_worker.roles.chronicle import HISTORY_FILE, Chronicle
from elf_worker.statistics import HomeObservation, MdcObservation

LOSSES = [0.05, 0.2, 0.3, 0.9]


@pytest.fixture
def run(tmp_path: pathlib.Path) -> str:
    """A folder with three rounds of four homes in two MDCs; home 3 has failed in the last one."""
    product = statistics.load(())
    chronicle = Chronicle(product, str(tmp_path))
    for round_ in range(3):
        overall: dict[str, object] = {}
        by_mdc: dict[int, dict[str, object]] = {}
        for home, loss in enumerate(LOSSES):
            common = {"home": home, "round": round_, "mdc": home % 2}
            if home == 3 and round_ == 2:
                seen = HomeObservation(**common, failed="TaskFailed")
            else:
                vector = np.array([1.0 + home, 0.0, loss], np.float32) * 2
                seen = HomeObservation(
                    **common, weight=2, vector=vector, seconds=0.1 * (home + 1), bytes_up=12
                )
            state = product.of_home(seen)
            product.combine(overall, state)
            product.combine(by_mdc.setdefault(home % 2, {}), state)
        product.combine(overall, product.of_mdc(MdcObservation(0, round_, 0.5, 2, 4, 0.1, 1.0, 48)))
        missing = [3] if round_ == 2 else []
        log = RoundLog(round_ + 1, 0.5, 4 - len(missing), len(missing), missing, {0: 2, 1: 2}, {})
        log.statistics, log.statistics_by_mdc = overall, by_mdc
        chronicle.note(log)
        chronicle.write(log, 0.4, {"f1": 0.5} if round_ == 2 else {}, {"stepping": 0.01})
    unsaved = chronicle.unsaved()
    assert unsaved is not None
    unsaved.store()
    return str(tmp_path)


def elf(*args: str) -> Result:
    return CliRunner().invoke(app, list(args), env={"COLUMNS": "120"})


def test_stats_tell_of_the_last_round_and_of_each_mdc(run: str) -> None:
    shown = elf("stats", run)
    assert shown.exit_code == 0, shown.output
    assert "3 served, failed: 1 TaskFailed" in shown.output
    assert "MDCs in round 3" in shown.output
    assert "11 served, failed: 1 TaskFailed" in elf("stats", run, "--all").output


def test_stats_as_json(run: str) -> None:
    found = json.loads(elf("stats", run, "-o", "json").output)
    assert found["lastRound"]["homes"] == {"served": 3, "failed": {"TaskFailed": 1}}
    assert found["total"]["loss"]["count"] == 11
    assert set(found["mdcs"]) == {"0", "1"}


@pytest.mark.parametrize(
    ("low", "high", "homes"),
    [("0.1", "0.5", [1, 2]), ("0", "0.1", [0]), ("2", "3", []), ("0", "inf", [0, 1, 2])],
)
def test_homes_between_two_losses(run: str, low: str, high: str, homes: list[int]) -> None:
    found = json.loads(elf("homes", run, "--loss-between", low, high, "-o", "json").output)
    assert (found["count"], found["homes"], found["all"]) == (len(homes), homes, True)
    said = elf("homes", run, "--loss-between", low, high).output
    assert said.startswith(f"round 3: {len(homes)} homes with a loss in ")


def test_the_trace_of_a_round_names_its_slowest_home(run: str) -> None:
    shown = elf("trace", run, "--round", "2").output
    assert "home 3" in shown and "stepping" in shown
    assert json.loads(elf("trace", run, "-o", "json").output)["slowest"]["home"] == 2


@pytest.mark.parametrize(
    ("args", "status", "said"),
    [
        (["homes", "RUN", "--loss-between", "0.5", "0.1"], 2, "--loss-between: 0.5 is above 0.1"),
        (["trace", "RUN", "--round", "9"], 1, "round 9: is not known"),
        (["trace", "RUN", "--round", "1", "--home", "1"], 2, "give one of them"),
        (["stats", "RUN", "-o", "xml"], 2, "--output: is 'xml', json or yaml is expected"),
        (["stats", "EMPTY"], 1, "holds no figures of a run"),
        (["plot", "EMPTY"], 2, "is no report and no history of a run"),
        (["check-statistic", "nowhere:Such"], 2, "there is no module 'nowhere'"),
        (["check-statistic", "json"], 2, "module:Class is expected"),
    ],
)
def test_what_cannot_be_told_is_said_on_one_line(
    run: str, tmp_path_factory: pytest.TempPathFactory, args: list[str], status: int, said: str
) -> None:
    places = {"RUN": run, "EMPTY": str(tmp_path_factory.mktemp("empty"))}
    done = elf(*(places.get(arg, arg) for arg in args))
    assert done.exit_code == status
    assert said in done.stderr and done.stderr.count("\n") == 1


def test_a_line_that_is_being_written_and_a_round_done_twice_do_no_harm(tmp_path: pathlib.Path) -> None:
    path = tmp_path / HISTORY_FILE
    lines = [{"round": 1, "loss": 1}, {"round": 2, "loss": 2}, {"round": 2, "loss": 3}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"round": 3, "lo')
    assert [(r["round"], r["loss"]) for r in read_history(path)] == [(1, 1), (2, 3)]


def test_plot_draws_a_png_of_a_folder_and_of_a_report(run: str, tmp_path: pathlib.Path) -> None:
    assert elf("plot", run, "-o", str(tmp_path / "folder.png")).exit_code == 0
    death = {"atRound": 2, "pod": "digits-mdc-1-0"}
    records = read_history(pathlib.Path(run, HISTORY_FILE))
    report = tmp_path / "report.json"
    report.write_text(json.dumps({"job": "digits", "perRound": records, "replacements": [death]}))
    assert elf("plot", str(report)).exit_code == 0
    for name in ("folder.png", "report.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_check_statistic_tells_which_law_does_not_hold(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_statistics_of_a_test.py").write_text(
        "from elf_worker.statistics import Statistic\n"
        "class Good(Statistic):\n"
        "    def identity(self): return 0\n"
        "    def of(self, seen): return seen.weight\n"
        "    def combine(self, a, b): return max(a, b)\n"
        "class Bad(Good):\n"
        "    def combine(self, a, b): return a - b\n"
    )
    monkeypatch.chdir(tmp_path)
    good = elf("check-statistic", "own_statistics_of_a_test:Good", "--examples", "20")
    assert (good.exit_code, good.output) == (0, "own_statistics_of_a_test:Good: good: the laws hold\n")
    bad = elf("check-statistic", "own_statistics_of_a_test:Bad", "--examples", "20")
    assert bad.exit_code == 1
    assert "own_statistics_of_a_test:Bad: " in bad.stderr
