"""Lines of several logs as one."""

from __future__ import annotations

import pytest

from builders import pod
from elf_cli.cluster.log_following import AGAIN_SECONDS, AT_LAST_SECONDS, Progress
from elf_cli.views import loglines
from elf_cli.views.loglines import Line
from elf_worker.contract import Role


@pytest.mark.parametrize(
    ("raw", "stamp", "text"),
    [
        (b"2026-11-23T09:46:52.05Z hello", "2026-11-23T09:46:52.050000000Z", "hello"),
        (b"2026-11-23T09:46:52Z  a  b\r", "2026-11-23T09:46:52.000000000Z", " a  b"),
        (b"2026-11-23T09:46:52.123456789Z", "2026-11-23T09:46:52.123456789Z", ""),
        (b"failed to try resolving symlinks", "", "failed to try resolving symlinks"),
        (b"\xff", "", "\N{REPLACEMENT CHARACTER}"),
        (b"", "", ""),
    ],
)
def test_a_line_and_its_time(raw: bytes, stamp: str, text: str) -> None:
    assert loglines.parse("p", raw) == Line(stamp, "p", text)


def test_in_the_order_of_time_and_each_pod_in_its_own() -> None:
    a = [loglines.parse("a", raw) for raw in (b"2026-01-01T00:00:01.1Z 1", b"2026-01-01T00:00:03Z 3")]
    b = [loglines.parse("b", raw) for raw in (b"2026-01-01T00:00:01.09Z 0", b"2026-01-01T00:00:03Z 4")]
    assert [line.text for line in loglines.merged([a, b])] == ["0", "1", "3", "4"]


@pytest.mark.parametrize(
    ("role", "index", "found"),
    [
        (None, None, ["sleigh-npdc-1", "sleigh-mdc-0-0", "sleigh-mdc-1-2", "sleigh-home-0", "sleigh-home-1"]),
        (Role.NPDC, None, ["sleigh-npdc-1"]),
        (Role.MDC, None, ["sleigh-mdc-0-0", "sleigh-mdc-1-2"]),
        (Role.MDC, 1, ["sleigh-mdc-1-2"]),
        (Role.HOME, 1, ["sleigh-home-0"]),
        (Role.HOME, 2, ["sleigh-home-1"]),
        (Role.HOME, 9, []),
    ],
)
def test_whose_logs_are_asked_for(role: Role | None, index: int | None, found: list[str]) -> None:
    pods = [
        pod(Role.HOME, 1),
        pod(Role.MDC, 1, 2),
        pod(Role.HOME, 0),
        pod(Role.NPDC, 0, 1),
        pod(Role.MDC, 0),
    ]
    assert [p.name for p in loglines.wanted(pods, role, index, per_pod=2)] == found


def test_each_line_says_whose_it_is() -> None:
    line = Line("2026-01-01T00:00:01.000000000Z", "mdc", "text")
    assert loglines.printed(line, 5, colours=False, stamps=False) == "mdc    text"
    assert loglines.printed(line, 3, colours=False, stamps=True) == "mdc  2026-01-01T00:00:01.000000000Z text"
    coloured = loglines.printed(line, 3, colours=True, stamps=False)
    assert coloured == f"\x1b[{loglines.colour('mdc')}mmdc\x1b[0m  text"


def test_a_connection_that_breaks_off_tells_nothing_twice() -> None:
    progress = Progress()
    first, second, third = (Line(f"2026-01-01T00:00:0{i}.000000000Z", "p", str(i)) for i in (1, 2, 3))
    excuse = Line("", "p", "no log")
    assert [progress.is_news(line) for line in (first, second, excuse)] == [True, True, True]
    assert progress.last == second.stamp and progress.pause() == AGAIN_SECONDS
    assert [progress.is_news(line) for line in (first, second, excuse, third)] == [False, False, False, True]


def test_a_log_that_cannot_be_read_is_asked_for_less_and_less() -> None:
    progress = Progress()
    waits = [progress.pause() for _ in range(8)]
    assert waits[:3] == [1.0, 2.0, 4.0] and waits[-1] == AT_LAST_SECONDS
    assert progress.is_news(Line("2026-01-01T00:00:01.000000000Z", "p", "1"))
    assert progress.pause() == AGAIN_SECONDS
