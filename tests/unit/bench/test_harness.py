"""What benchmarks make of their samples. No clock here."""

from __future__ import annotations

import itertools
import json
import pathlib
import subprocess
import sys

import harness
import pytest
import report
import run
import tree
from harness import Ratio, Result, Row, Spread, Table

from documents import ROOT

MACHINE = {"at": "2026-01-02", "cores": "2"}


def result(name: str = "sums") -> Result:
    row = Row("plain", "ms", [3.0, 1.0, 2.0], "a note")
    ratio = Ratio.paired("exact / plain", [6.0, 4.0, 4.0], [3.0, 1.0, 2.0], target=2.5, at_least=False)
    return Result(name, [Table("10 MB", [row], [ratio])], MACHINE, "python tests/bench/sums.py")


def test_variants_take_turns_and_every_second_round_goes_backwards() -> None:
    order: list[str] = []

    def work(name: str, values: itertools.count[int]) -> float:
        order.append(name)
        return float(next(values))

    ones, tens = itertools.count(1), itertools.count(10)
    taken = harness.side_by_side({"a": lambda: work("a", ones), "b": lambda: work("b", tens)}, 3)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert taken == {"a": [1.0, 2.0, 3.0], "b": [10.0, 11.0, 12.0]}


def test_a_spread_is_median_least_and_most() -> None:
    assert Spread.of([5.0, 1.0, 2.0]) == Spread(2.0, 1.0, 5.0)
    assert str(Spread.of([5.0, 1.0, 2.0])) == "2 [1–5]"
    assert str(Spread.of([2.0])) == "2"


def test_nothing_measured_is_no_figure() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        Spread.of([])


def test_a_ratio_is_paired_by_round() -> None:
    """A noisy second round, ten times as slow on both sides, leaves no trace in it."""
    assert Ratio.paired("r", [2.0, 20.0, 2.0], [1.0, 10.0, 1.0]).samples == [2.0, 2.0, 2.0]
    with pytest.raises(ValueError):
        Ratio.paired("r", [2.0, 20.0], [1.0])


@pytest.mark.parametrize(
    ("target", "at_least", "reached"),
    [(None, True, None), (2.0, True, True), (2.1, True, False), (2.0, False, True), (1.9, False, False)],
)
def test_a_target_is_the_least_or_the_most(
    target: float | None, at_least: bool, reached: bool | None
) -> None:
    assert Ratio("r", [9.0, 2.0, 1.0], target, at_least).reached is reached
    assert Row("r", "ms", [9.0, 2.0, 1.0], "", target, at_least).reached is reached


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.00012, "1.2e-04"),
        (0.01234, "0.0123"),
        (12.345, "12.3"),
        (3745.4, "3 745"),
        (99.96, "100"),
    ],
)
def test_three_digits_are_shown(value: float, text: str) -> None:
    assert harness.short(value) == text


def test_tables_say_figures_targets_and_the_machine() -> None:
    text = harness.markdown(result())
    assert "| plain | 2 [1–3] | ms | a note |" in text
    assert "| exact / plain | 2 [2–4] | ≤ 2.5 | reached |" in text
    assert "`python tests/bench/sums.py`: 2026-01-02, cores 2" in text


def test_a_row_says_what_is_wanted_of_it() -> None:
    """And the table has a place for that only where something is."""
    wanted = Row("start", "s", [0.8, 0.7, 0.9], "cold", target=0.7)
    table = Table("times", [wanted, Row("plain", "s", [1.0])])
    text = harness.markdown(Result("start", [table], MACHINE))
    assert "| start | 0.8 [0.7–0.9] | s | ≤ 0.7 | **not reached** | cold |" in text
    assert "| plain | 1 | s |  |  |  |" in text
    assert "wanted" not in harness.markdown(result()).partition("| ratio |")[0]


def test_a_command_names_no_place_and_no_cluster_of_its_writer() -> None:
    words = ["/home/me/tests/bench/operating.py", "--context", "mine", "--rounds", "2"]
    assert harness.typed(words) == "python tests/bench/operating.py --context NAME --rounds 2"


def test_a_result_survives_its_file(tmp_path: pathlib.Path) -> None:
    path = result().save(tmp_path / "new")
    assert path.name == "sums.json"
    assert harness.markdown(Result.load(path)) == harness.markdown(result())
    assert json.loads(path.read_text())["machine"] == MACHINE


def test_the_report_keeps_the_prose(tmp_path: pathlib.Path) -> None:
    page = tmp_path / "page.md"
    before, after = "# Speed\n\nWhat was learnt.\n\n", "\n\nAnd more of it.\n"
    page.write_text(f"{before}<!-- measured: sums -->\nold\n<!-- end: sums -->{after}")
    result().save(tmp_path)
    report.write(page, tmp_path)
    once = page.read_text()
    assert once.startswith(before) and once.endswith(after)
    assert "| plain |" in once and "old" not in once
    report.write(page, tmp_path)
    assert page.read_text() == once


def test_the_report_keeps_the_tables_of_what_was_left_out(tmp_path: pathlib.Path) -> None:
    """Also those of an older file: the page may have come with newer ones."""
    page = tmp_path / "page.md"
    page.write_text("<!-- measured: operating -->\nnewer\n<!-- end: operating -->\n")
    result("operating").save(tmp_path)
    result("sums").save(tmp_path)
    report.write(page, tmp_path, {"sums", "start"})
    assert page.read_text().startswith("<!-- measured: operating -->\nnewer\n<!-- end: operating -->\n")
    assert "## sums" in page.read_text()


def test_what_has_no_place_yet_comes_last(tmp_path: pathlib.Path) -> None:
    assert report.written("# Speed\n", "tree", "a table") == (
        "# Speed\n\n## tree\n\n<!-- measured: tree -->\n\na table\n\n<!-- end: tree -->\n"
    )


@pytest.mark.parametrize(
    "torn", ["<!-- end: a -->\n<!-- measured: a -->", "<!-- measured: a -->", "<!-- end: a -->"]
)
def test_a_torn_page_is_left_alone(torn: str) -> None:
    with pytest.raises(report.TornError, match="a: the page needs both"):
        report.written(f"prose\n{torn}\nprose", "a", "a table")


def test_the_page_has_whole_markers() -> None:
    page = (ROOT / "docs" / "performance.md").read_text()
    for name in set(run.names()) - run.PARTS:
        assert report.written(page, name, "tables").count("tables\n\n<!-- end") == 1
        assert f"## {name}" not in report.written(page, name, "tables")


def test_only_what_needs_a_cluster_gets_a_context() -> None:
    assert run.ON_CLUSTER == {"operating"} and run.ON_CLUSTER < set(run.names())
    assert run.command("operating", True, "kind-kind")[2:] == ["--quick", "--context", "kind-kind"]
    assert run.command("sums", False, "kind-kind")[2:] == []


def test_without_a_cluster_the_operator_is_left_out_and_its_tables_stay(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- measured: operating -->\nold\n<!-- end: operating -->\n")
    result("operating").save(tmp_path)
    ran: list[str] = []

    def benchmark(words: list[str]) -> int:
        name = pathlib.Path(words[1]).stem
        result(name).save(tmp_path)
        ran.append(name)
        return int(name == "start")

    monkeypatch.setattr(run, "_run", benchmark)
    monkeypatch.setattr(report, "PAGE", page)
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    monkeypatch.setattr(harness, "exit_on_terminate", lambda: None)
    monkeypatch.setattr(sys, "argv", ["run.py", "operating", "sums", "start"])
    assert run.main() == 1
    said = capsys.readouterr().err
    assert ran == ["sums", "start"]
    assert "make bench CONTEXT=<kubeconfig context>" in said and "broken: start" in said
    assert "\nold\n" in page.read_text() and "## sums" in page.read_text()
    assert "## start" not in page.read_text()


@pytest.mark.parametrize(
    ("looks", "expected"),
    [
        ([], {}),
        ([(1, 0.0), (2, 1.0)], {}),
        ([(2, 0.5), (4, 1.0), (6, 2.0), (6, 9.0)], {"npdc": 0.5, "mdcs": 1.0, "homes": 4.0}),
    ],
    ids=["no look", "only the warm-up", "the end is not counted"],
)
def test_cpu_of_the_tree_is_that_of_whole_rounds(
    monkeypatch: pytest.MonkeyPatch, looks: list[tuple[int, float]], expected: dict[str, float]
) -> None:
    everyone = 1 + tree.MDCS + tree.HOMES
    monkeypatch.setattr(tree, "CPU", [(done, [seconds] * everyone) for done, seconds in looks])
    assert tree.cpu_by_role() == expected


def test_no_script_hides_a_module_of_the_standard_library() -> None:
    """A script's folder comes first on its path: `operator.py` would be what `collections` imports."""
    scripts = {path.stem for path in (ROOT / "tests" / "bench").rglob("*.py")}
    assert not scripts & sys.stdlib_module_names


@pytest.mark.parametrize("script", run.names())
def test_a_benchmark_can_be_begun(script: str) -> None:
    """It finds everything that it measures."""
    command = [sys.executable, str(ROOT / "tests/bench" / f"{script}.py"), "--help"]
    assert "usage" in subprocess.run(command, capture_output=True, text=True, check=True).stdout
