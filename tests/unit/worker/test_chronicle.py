"""What the NPDC remembers of its rounds, and the window through which it shows them."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import socket
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from elf_worker.aggregation.northpole import RoundLog
from elf_worker.contract import JobConfig
from elf_worker.roles.chronicle import HISTORY_FILE, NAMED_HOMES, REMEMBERED, WINDOW_FILE, Chronicle
from elf_worker.roles.environment import Environment
from elf_worker.roles.npdc import NpdcShell
from elf_worker.roles.trainer import Trainer
from elf_worker.roles.window import BadQueryError, Figures, Query, Window, exposition
from elf_worker.statistics import HomeObservation, MdcObservation, Product, Statistic, load
from elf_worker.statistics.product import State

LOCALHOST = "127.0.0.1"
JOB = JobConfig(
    job="night",
    uid="uid-1",
    homes=12,
    per_pod=1,
    rounds=100,
    seed=2,
    entrypoint="elf_worker.tasks.naughty_or_nice:NaughtyOrNice",
    task_args={"records": 16, "batch_size": 4},
)


class Served(Statistic):
    """Homes, reported as the test says."""

    def __init__(self, shown: Callable[[int], Any] = lambda count: count) -> None:
        self._shown = shown

    def identity(self) -> int:
        return 0

    def of(self, observation: HomeObservation) -> int:
        return 1

    def combine(self, a: int, b: int) -> int:
        return a + b

    def report(self, state: int) -> Any:
        return self._shown(state)


def with_more(*more: Statistic) -> Product:
    return Product([*load(()).statistics.values(), *more])


def home(index: int, loss: float, round_: int = 0, mdc: int = 0) -> HomeObservation:
    vector = np.array([1.0 + index, loss], np.float32)
    return HomeObservation(
        home=index, round=round_, mdc=mdc, weight=1, vector=vector, seconds=0.25 * index, classes={"a": 2}
    )


def closed(product: Product, round_: int, losses: Mapping[int, Mapping[int, float]], **more: Any) -> RoundLog:
    """The log of a round in which each MDC had these homes with these losses."""
    total: State = {}
    by_mdc: dict[int, State] = {}
    for mdc, homes in losses.items():
        mine = by_mdc.setdefault(mdc, {})
        for index, loss in homes.items():
            product.combine(mine, product.of_home(home(index, loss, round_ - 1, mdc)))
        seen = MdcObservation(mdc, round_ - 1, 0.5 + mdc, len(homes), len(homes), 1.0, 1.0, 64)
        product.combine(mine, product.of_mdc(seen))
        product.combine(total, mine)
    plain: dict[str, Any] = {
        "round": round_,
        "seconds": 0.1234567,
        "counted": sum(map(len, losses.values())),
        "failed": 0,
        "missing": [],
        "by_mdc": {mdc: len(homes) for mdc, homes in losses.items()},
        "reasons": {},
        "homes": 4,
    }
    log = RoundLog(**(plain | more))
    log.statistics, log.statistics_by_mdc = total, by_mdc
    return log


FIRST = {0: {0: 0.5, 1: 1.0}, 2: {2: 2.0}}
SECOND = {0: {0: 0.25}, 2: {1: 0.5, 2: 0.75}}


@pytest.fixture
def product() -> Product:
    return load(())


# -- remembering ----------------------------------------------------------------------------------------


def test_nothing_has_happened_yet(product: Product) -> None:
    chronicle = Chronicle(product)
    assert chronicle.report() == {"round": 0, "lastRound": {}, "total": {}, "mdcs": {}, "errors": {}}
    assert chronicle.summary() == {}
    assert chronicle.homes_between(0, 9) == {"round": 0, "count": 0, "homes": [], "all": True}


def test_the_last_round_the_total_and_each_mdc(product: Product) -> None:
    chronicle = Chronicle(product)
    chronicle.note(closed(product, 1, FIRST))
    chronicle.note(closed(product, 2, SECOND))
    report = json.loads(json.dumps(chronicle.report()))
    assert report["round"] == 2
    assert report["lastRound"]["homes"]["served"] == 3
    assert report["lastRound"]["loss"]["mean"] == 0.5
    assert report["total"]["homes"]["served"] == 6
    assert (report["total"]["loss"]["min"], report["total"]["loss"]["max"]) == (0.25, 2.0)
    assert report["total"]["mdc_seconds"]["count"] == 4
    assert {mdc: found["homes"]["served"] for mdc, found in report["mdcs"].items()} == {"0": 1, "2": 2}
    assert report["mdcs"]["2"]["loss"]["maxId"] == 2


def test_adding_to_the_total_leaves_the_last_round_alone(product: Product) -> None:
    chronicle = Chronicle(product)
    first = closed(product, 1, FIRST)
    before = product.report(first.statistics)
    chronicle.note(first)
    chronicle.note(closed(product, 2, SECOND))
    assert product.report(first.statistics) == before


def test_the_total_keeps_no_sample_of_ids_and_the_last_round_does(product: Product) -> None:
    """It would go with each copy of the NPDC's state, and nobody asks it."""
    chronicle = Chronicle(product)
    chronicle.note(closed(product, 1, FIRST))
    assert chronicle.total["loss"].bins == chronicle.last["loss"].bins
    assert chronicle.total["loss"].samples == {}
    assert chronicle.homes_between(0, 9)["homes"] == sorted(
        home for homes in FIRST.values() for home in homes
    )


def test_errors_are_counted_in_the_report() -> None:
    product = with_more(Served(lambda count: 1 // 0))
    chronicle = Chronicle(product)
    chronicle.note(closed(product, 1, FIRST))
    report = chronicle.report()
    assert report["errors"]["served"] > 0
    assert "served" not in report["lastRound"]


def test_a_successor_goes_on_with_the_totals(product: Product) -> None:
    first, second = Chronicle(product), Chronicle(load(()))
    first.note(closed(product, 1, FIRST))
    second.restore(first.to_bytes())
    for chronicle in (first, second):
        chronicle.note(closed(product, 2, SECOND))
    assert second.report()["total"] == first.report()["total"]
    assert second.report()["total"]["homes"]["served"] == 6


@pytest.mark.parametrize("data", [b"", b"\xff", b"\x81\xa4loss\xc4\x01\xc1"])
def test_totals_that_cannot_be_read_begin_anew(product: Product, data: bytes) -> None:
    chronicle = Chronicle(product)
    chronicle.restore(data)
    chronicle.note(closed(product, 1, FIRST))
    assert chronicle.report()["total"]["homes"]["served"] == 3


def copied(trainer: Trainer) -> bytes:
    """The state as an MDC gives it back."""
    snapshot = trainer.initialise()
    return bytes(snapshot.weights) + trainer.preserve(snapshot)


def test_the_totals_travel_with_the_state_copy(product: Product) -> None:
    """From one trainer's snapshot to its successor's, and on with the next step's."""
    chronicle = Chronicle(product)
    chronicle.note(closed(product, 1, FIRST))
    old, new, last = (Trainer(JOB, epoch, "") for epoch in (1, 2, 3))
    assert new.restore(copied(old)) and new.statistics == b""
    old.statistics = chronicle.to_bytes()
    new.restore(copied(old))
    assert new.statistics == chronicle.to_bytes()
    last.restore(copied(new))
    successor = Chronicle(product)
    successor.restore(last.statistics)
    assert successor.report()["total"] == chronicle.report()["total"]


def save(chronicle: Chronicle) -> None:
    """As the NPDC does it."""
    unsaved = chronicle.unsaved()
    assert unsaved is not None
    unsaved.store()


# -- one record a round ---------------------------------------------------------------------------------


def test_a_line_of_history_per_round(product: Product, tmp_path: Path) -> None:
    folder = tmp_path / "not" / "there" / "yet"
    chronicle = Chronicle(product, str(folder))
    for round_, losses in enumerate((FIRST, SECOND), 1):
        log = closed(product, round_, losses)
        chronicle.note(log)
        chronicle.write(log, 0.5, {}, {"stepping": 0.01})
        save(chronicle)
        lines = (folder / HISTORY_FILE).read_text().splitlines()
        assert [json.loads(line) for line in lines] == list(chronicle.history)
        assert len(lines) == round_, "readable while the job runs"
    record = json.loads(lines[1])
    assert record["at"] > 1.7e9
    assert {k: v for k, v in record.items() if k != "at"} == {
        "round": 2,
        "homes": 4,
        "seconds": 0.123457,
        "counted": 3,
        "failed": 0,
        "loss": 0.5,
        "byMdc": {"0": 1, "2": 2},
        "npdc": {"stepping": 0.01},
        "slowest": {
            "home": 2, "mdc": 2, "seconds": 0.5, "waitingInPod": 0.0, "computing": 0.0, "onTheWay": 0.5,
        },
    }  # fmt: skip


def test_what_went_wrong_and_what_was_measured_is_in_the_record(product: Product) -> None:
    chronicle = Chronicle(product)
    log = closed(product, 3, FIRST, failed=2, missing=[7, 8, 9], reasons={"TaskFailed": 2})
    chronicle.note(log)
    chronicle.write(log, None, {"f1": 0.75}, {"stepping": 0.1, "evaluating": 0.2})
    record = chronicle.history[-1]
    assert (record["missing"], record["reasons"], record["metrics"]) == (3, {"TaskFailed": 2}, {"f1": 0.75})
    assert (record["failed"], record["loss"]) == (2, None)


def test_without_a_folder_the_last_rounds_are_remembered(product: Product) -> None:
    chronicle = Chronicle(product)
    log = closed(product, 1, {0: {0: 1.0}})
    for round_ in range(1, REMEMBERED + 6):
        chronicle.write(dataclasses.replace(log, round=round_), None, {}, {})
    assert [record["round"] for record in chronicle.history] == list(range(6, REMEMBERED + 6))


def test_history_survives_a_successor_in_the_same_folder(product: Product, tmp_path: Path) -> None:
    log = closed(product, 1, FIRST)
    for _ in range(2):
        chronicle = Chronicle(product, str(tmp_path))
        chronicle.write(log, None, {}, {})
        save(chronicle)
    rounds = [json.loads(line)["round"] for line in (tmp_path / HISTORY_FILE).read_text().splitlines()]
    assert rounds == [1, 1]


def test_a_folder_that_cannot_be_written_stops_nothing(product: Product, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file where the folder should be")
    chronicle = Chronicle(product, str(tmp_path / "taken"))
    chronicle.write(closed(product, 1, FIRST), None, {}, {})
    save(chronicle)
    assert len(chronicle.history) == 1


def test_what_is_saved_answers_like_the_one_that_saved_it(product: Product, tmp_path: Path) -> None:
    chronicle = Chronicle(product, str(tmp_path))
    chronicle.note(closed(product, 1, FIRST))
    save(chronicle)
    report, found = Chronicle.saved(tmp_path)
    assert report == json.loads(json.dumps(chronicle.report()))
    assert found.homes_between(0.9, 3) == chronicle.homes_between(0.9, 3)


def test_the_window_s_address_is_in_the_folder(product: Product, tmp_path: Path) -> None:
    Chronicle(product, str(tmp_path)).announce("http://here:1")
    Chronicle(product).announce("http://nowhere:1")
    assert (tmp_path / WINDOW_FILE).read_text() == "http://here:1"


# -- a few words ----------------------------------------------------------------------------------------


def test_the_summary_says_it_in_words(product: Product) -> None:
    chronicle = Chronicle(product)
    log = closed(product, 1, FIRST)
    for index in (7, 8):
        product.combine(log.statistics, product.of_home(HomeObservation(index, 0, failed="TaskFailed")))
    chronicle.note(log)
    summary = chronicle.summary()
    assert summary["homes"] == "3 served, failed: 2 TaskFailed"
    assert summary["loss"].endswith("least 0.5 (0), most 2 (2)")
    assert set(summary) == {"homes", "loss", "gradientNorm", "homeSeconds", "mdcSeconds"}
    assert all(isinstance(value, str) for value in summary.values())


def test_the_summary_is_bounded_whatever_statistics_say() -> None:
    more = [type(f"Long{'x' * 60}{i}", (Served,), {})(lambda count: "y" * 5000) for i in range(30)]
    product = with_more(*more)
    chronicle = Chronicle(product)
    log = closed(product, 1, FIRST)
    for i in range(3000):
        product.combine(log.statistics, product.of_home(HomeObservation(i, 0, failed=f"{i % 40:064}" * 9)))
    chronicle.note(log)
    assert len(json.dumps(chronicle.summary())) < 5000


UNFIT = [{1, 2}, np.float32(0.5), {(1, 2): 3}, b"bytes", object()]


@pytest.mark.parametrize("shown", UNFIT, ids=lambda value: type(value).__name__)
def test_a_report_that_json_does_not_know_stops_nothing(shown: Any, tmp_path: Path) -> None:
    product = with_more(Served(lambda count: shown))
    chronicle = Chronicle(product, str(tmp_path))
    chronicle.note(closed(product, 1, FIRST))
    assert "loss" in chronicle.summary()
    save(chronicle)
    assert "loss" in json.loads(json.dumps(chronicle.report()))["lastRound"]


# -- who had a loss between two values ------------------------------------------------------------------


def test_homes_between_two_losses_are_counted_and_named(product: Product) -> None:
    chronicle = Chronicle(product)
    chronicle.note(closed(product, 4, FIRST))
    assert chronicle.homes_between(0.9, 3) == {"round": 4, "count": 2, "homes": [1, 2], "all": True}
    assert chronicle.homes_between(3, 9) == {"round": 4, "count": 0, "homes": [], "all": True}
    assert chronicle.homes_between(3, 1)["count"] == 0
    assert chronicle.homes_between(-1, float("inf"))["count"] == 3


def test_of_many_equal_ones_some_are_named_and_that_is_said(product: Product) -> None:
    chronicle = Chronicle(product)
    chronicle.note(closed(product, 1, {0: dict.fromkeys(range(50), 0.5)}))
    found = chronicle.homes_between(0.4, 0.6)
    assert (found["count"], found["all"]) == (50, False)
    assert 0 < len(found["homes"]) < 50


def test_a_list_that_is_cut_is_not_called_all(product: Product) -> None:
    chronicle = Chronicle(product)
    losses = {index: 1.1**index for index in range(NAMED_HOMES + 20)}
    chronicle.note(closed(product, 1, {0: losses}))
    found = chronicle.homes_between(0.5, 1e9)
    assert (found["count"], len(found["homes"])) == (NAMED_HOMES + 20, NAMED_HOMES)
    assert not found["all"]


# -- the window -----------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind((LOCALHOST, 0))
        return int(sock.getsockname()[1])


Get = Callable[[str], Any]


@pytest.fixture
async def show() -> AsyncIterator[Callable[..., Get]]:
    """Opens a window; what it gives back asks for a page: (status, type, body)."""
    opened: list[Window] = []

    def open_one(figures: Callable[[], Figures], pages: Mapping[str, Callable[[Query], Any]]) -> Get:
        port = free_port()
        window = Window(figures, pages)
        window.open(LOCALHOST, port)
        opened.append(window)

        def get(path: str) -> tuple[int, str, str]:
            try:
                with urllib.request.urlopen(f"http://{LOCALHOST}:{port}{path}", timeout=30) as answer:
                    return answer.status, answer.headers.get_content_type(), answer.read().decode()
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, error.headers.get_content_type(), error.read().decode()

        return lambda path: asyncio.to_thread(get, path)

    yield open_one
    for window in opened:
        window.close()


def parsed(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """(name, labels) → value of Prometheus' text format."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_prometheus_understands_the_metrics(show: Callable[..., Get], product: Product) -> None:
    log = closed(product, 1, FIRST)
    get = show(lambda: [("round", {}, 7.0), *product.metrics(log.statistics)], {})
    status, kind, text = await get("/metrics")
    assert (status, kind) == (200, "text/plain")
    found = parsed(text)
    assert found["elf_round", ()] == 7
    assert found["elf_homes_served", ()] == 3
    assert found["elf_loss_count", ()] == 3
    assert found["elf_loss_sum", ()] == 3.5
    assert found["elf_loss", (("quantile", "0.5"),)] == pytest.approx(1.0, rel=0.01)
    assert all(name.startswith("elf_") for name, _ in found)


async def test_labels_may_hold_anything(show: Callable[..., Get]) -> None:
    odd = 'a "quoted" \\ line\nand näxt'
    get = show(lambda: [("homes_failed", {"reason": odd}, 2.0)], {})
    _, _, text = await get("/metrics")
    assert parsed(text) == {("elf_homes_failed", (("reason", odd),)): 2.0}


async def test_pages_are_json_and_see_the_query(show: Callable[..., Get]) -> None:
    get = show(list, {"/echo": lambda query: {"query": dict(query)}, "/none": lambda query: None})
    assert await get("/echo?a=1&b=x%20y") == (200, "application/json", '{"query": {"a": "1", "b": "x y"}}')
    assert await get("/none") == (200, "application/json", "null")


async def test_pages_are_made_on_the_event_loop(show: Callable[..., Get]) -> None:
    """There the figures live: nothing changes while a page is made."""
    loop = asyncio.get_running_loop()
    get = show(list, {"/here": lambda query: asyncio.get_running_loop() is loop})
    assert await get("/here") == (200, "application/json", "true")


@pytest.mark.parametrize("path", ["/", "/nothing", "/metrics/", "/../etc/passwd"])
async def test_an_unknown_page_is_answered_with_those_there_are(show: Callable[..., Get], path: str) -> None:
    get = show(list, {"/one": dict, "/two": dict})
    assert await get(path) == (404, "text/plain", "there are /metrics, /one, /two\n")


async def test_a_question_that_makes_no_sense_is_answered_in_words(show: Callable[..., Get]) -> None:
    def page(query: Query) -> Any:
        raise BadQueryError("home: is 99, 0..11 is expected")

    get = show(list, {"/trace": page})
    assert await get("/trace?home=99") == (400, "text/plain", "home: is 99, 0..11 is expected\n")


async def test_a_page_that_raises_does_not_close_the_window(show: Callable[..., Get], capfd: Any) -> None:
    get = show(lambda: [("round", {}, 1.0)], {"/bad": lambda query: 1 // 0})
    assert (await get("/bad"))[0] == 500
    assert (await get("/metrics"))[0] == 200


async def test_without_its_port_there_is_a_warning_and_no_window(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as taken:
        taken.bind((LOCALHOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        window = Window(list, {})
        with caplog.at_level(logging.WARNING):
            window.open(LOCALHOST, port)
        assert f"no figures on {LOCALHOST}:{port}" in caplog.text
        window.close()


async def test_when_a_window_is_closed_nobody_is_there_any_more() -> None:
    port = free_port()
    for _ in range(2):  # its port is free at once
        window = Window(list, {})
        window.open(LOCALHOST, port)
        socket.create_connection((LOCALHOST, port)).close()
        window.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((LOCALHOST, port))


def test_no_figures_are_a_page_too() -> None:
    assert exposition([]) == b""


# -- the NPDC's own pages -------------------------------------------------------------------------------


@pytest.fixture
async def npdc() -> NpdcShell:
    env = Environment(JOB, "uid", LOCALHOST, 0, 1, "", "", "", "", "")
    shell = NpdcShell(env, board=None)  # type: ignore[arg-type]
    for round_, losses in enumerate((FIRST, SECOND), 1):
        log = closed(shell._product, round_, losses)
        shell.chronicle.note(log)
        shell.chronicle.write(log, 0.5, {}, {})
    return shell


async def test_the_npdc_answers_all_its_pages(show: Callable[..., Get], npdc: NpdcShell) -> None:
    get = show(npdc._figures, npdc._pages())

    async def page(path: str) -> Any:
        status, kind, text = await get(path)
        assert (status, kind) == (200, "application/json")
        return json.loads(text)

    assert await page("/statistics") == json.loads(json.dumps(npdc.chronicle.report()))
    assert [record["round"] for record in await page("/history")] == [1, 2]
    assert [record["round"] for record in await page("/history?last=1")] == [2]
    assert await page("/history?last=0") == []
    assert (await page("/homes?above=0.4&below=0.6"))["homes"] == [1]
    assert (await page("/homes"))["count"] == 3
    assert (await page("/trace"))["round"] == 2
    assert (await page("/trace?round=1"))["slowest"]["home"] == 2
    assert await page("/trace?round=77") is None
    assert await page("/trace?home=3") is None
    assert list(npdc._asked_homes) == [3]


async def test_the_npdc_s_metrics_tell_each_mdc_apart(show: Callable[..., Get], npdc: NpdcShell) -> None:
    status, _, text = await show(npdc._figures, npdc._pages())("/metrics")
    found = parsed(text)
    assert status == 200
    assert found["elf_homes_served", ()] == 3
    assert found["elf_of_mdc_homes_served", (("mdc", "0"),)] == 1
    assert found["elf_of_mdc_home_seconds_count", (("mdc", "2"),)] == 2


BAD_QUESTIONS = [
    ("/homes?above=low", "above: is 'low', a number is expected"),
    ("/homes?below=", None),
    ("/history?last=1.5", "last: is '1.5', a number is expected"),
    ("/trace?round=first", "round: is 'first', a number is expected"),
    ("/trace?home=one", "home: is 'one', a number is expected"),
    ("/trace?home=12", "home: is 12, 0..11 is expected"),
    ("/trace?home=-1", "home: is -1, 0..11 is expected"),
    ("/homes?above=nan", "above: is 'nan', a number is expected"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "sentence"), BAD_QUESTIONS)
async def test_a_bad_question_names_its_parameter(
    show: Callable[..., Get], npdc: NpdcShell, path: str, sentence: str | None
) -> None:
    status, _, text = await show(npdc._figures, npdc._pages())(path)
    assert (status, text) == (400, f"{sentence}\n") if sentence else status == 200


def test_history_is_added_to_more_often_than_statistics(product: Product, tmp_path: Path) -> None:
    chronicle = Chronicle(product, str(tmp_path))
    for round_, losses in ((1, FIRST), (2, SECOND)):
        log = closed(product, round_, losses)
        chronicle.note(log)
        chronicle.write(log, 0.5, {}, {})
        unsaved = chronicle.unsaved(whole=round_ == 1)
        assert unsaved is not None
        unsaved.store()
    assert [json.loads(line)["round"] for line in (tmp_path / HISTORY_FILE).read_text().splitlines()] == [
        1,
        2,
    ]
    assert Chronicle.saved(tmp_path)[0]["round"] == 1
    save(chronicle)
    assert Chronicle.saved(tmp_path)[0]["round"] == 2
