"""Bundles at single machines: taken whole or not at all, and nobody is asked for without need."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from elf_worker.aggregation import bundles, household, ids
from elf_worker.aggregation.datacenter import DataCenter, Identity
from elf_worker.aggregation.effects import ComputeMany, Effect, Send
from elf_worker.aggregation.household import Household
from elf_worker.aggregation.tally import Intake, Tally
from elf_worker.contract import WIRE_VERSION
from elf_worker.messages import (
    Assign,
    Bundle,
    Discarded,
    Hello,
    Located,
    Message,
    Moved,
    Refused,
    Stamp,
    Submit,
    Want,
    Watch,
    Welcome,
    Work,
)
from elf_worker.statistics import ManyHomes, built_in

FIRST, NEXT = Stamp(0, 0), Stamp(1, 0)
WEIGHTS = np.ones(3, np.float32).tobytes()


def mask(*homes: int) -> bytes:
    return ids.to_wire(ids.mask_of(homes))


def said(effects: list[Effect]) -> list[Message]:
    return [e.message for e in effects if isinstance(e, Send)]


def bundle(*homes: int, stamp: Stamp = FIRST, mdc: int = 0, **changes: Any) -> tuple[Bundle, Any]:
    tally = Tally(4, Intake(statistics=built_in()))
    rows = np.full((len(homes), 4), 0.5, np.float32)
    tally.add_many(ManyHomes(np.array(homes), 0, mdc, np.ones(len(homes), np.int64), rows))
    made, payload = bundles.make(tally, stamp, mdc, 0.5)
    return msgspec.structs.replace(made, sum=msgspec.structs.replace(made.sum, **changes)), payload


def center(*homes: int, known: int = 1 << 20, **intake: Any) -> DataCenter:
    """An MDC that serves these homes, all of them on link -1."""
    mdc = DataCenter(
        Identity("job", 0, 0, "a0", "at"), "npdc", Intake(known, statistics=built_in(), **intake)
    )
    mdc.tick(0.0)
    mdc.opened(0, 0.0)
    mdc.received(0, Welcome(0), None, 0.0)
    mdc.received(0, Assign(FIRST, mask(*homes), b""), None, 0.0)
    mdc.received(0, Work(0, FIRST), WEIGHTS, 0.0)
    mdc.opened(-1, 0.0)
    mdc.received(-1, Hello(WIRE_VERSION, "job", mask(*homes), -1, None), None, 0.0)
    return mdc


def give(mdc: DataCenter, made: tuple[Bundle, Any]) -> list[Message]:
    return said(mdc.received(-1, *made, 1.0))


def test_bundles_add_up_to_what_is_submitted() -> None:
    mdc = center(5, 6, 7, 8)
    assert give(mdc, bundle(5, 6)) == []
    [submit] = give(mdc, bundle(7, 8))
    assert isinstance(submit, Submit)
    assert (submit.members, submit.weight, submit.bound) == (mask(5, 6, 7, 8), 4, 4)
    [flown] = [mdc._flying]
    assert flown is not None
    assert built_in().report(flown.statistics)["homes"]["served"] == 4


def test_what_was_said_twice_counts_once_and_asks_for_nothing() -> None:
    mdc = center(1, 2, 3)
    assert give(mdc, bundle(1, 2)) == give(mdc, bundle(1, 2)) == give(mdc, bundle(1)) == []
    [submit] = give(mdc, bundle(3))
    assert isinstance(submit, Submit)
    assert submit.weight == 3


def test_of_a_bundle_that_overlaps_nothing_is_taken_and_the_rest_is_asked_for() -> None:
    mdc = center(1, 2, 3)
    give(mdc, bundle(1))
    assert give(mdc, bundle(1, 2)) == [Want(FIRST, mask(2))]
    assert mdc._tally.members == ids.mask_of([1])


@pytest.mark.parametrize(
    ("made", "reason", "again"),
    [
        (bundle(0, 1), "NotMine", [1]),
        (bundle(1, 2, mdc=1), "NotMine", [1, 2]),
        (bundle(1, 1 << 16), "NotMine", []),
        (bundle(1, 2, stamp=NEXT), "StaleRound", []),
    ],
    ids=["a home of others", "of another MDC", "nobody's home", "another round"],
)
def test_what_cannot_be_taken_whole_is_refused(made: Any, reason: str, again: list[int]) -> None:
    mdc = center(1, 2, 3)
    refused, *rest = give(mdc, made)
    assert isinstance(refused, Refused)
    assert refused.reason == reason
    assert rest == ([Want(FIRST, mask(*again))] if again else [])
    assert mdc._tally.held == 0


def test_a_bundle_that_lost_its_room_to_others_is_asked_for_again() -> None:
    """One that came before its round did is not: its homes have been asked since, with the weights."""
    mdc = center(1, 2, 3)
    made, payload = bundle(1, 2)
    size = memoryview(payload).nbytes
    assert give(mdc, (made, Discarded(size, crowded=True))) == [Want(FIRST, mask(1, 2))]
    assert give(mdc, (made, Discarded(size))) == []
    assert mdc._tally.held == 0
    assert give(mdc, (made, payload)) == []
    assert mdc._tally.members == ids.mask_of([1, 2])
    assert give(mdc, (made, Discarded(size, crowded=True))) == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"weight": 0}, "BadWeight"),
        ({"weight": 3 << 24}, "BadWeight"),
        ({"bound": 2 * 2**21 + 1}, "OutOfRange"),
        ({"bound": 0}, "OutOfRange"),
        ({"extra": 1}, "WrongSize"),
    ],
)
def test_homes_of_a_bad_bundle_have_failed(changes: dict[str, int], reason: str) -> None:
    """As two homes with such vectors would have."""
    mdc = center(1, 2, 3)
    [refused] = give(mdc, bundle(1, 2, **changes))
    assert isinstance(refused, Refused)
    assert refused.reason == reason
    assert (mdc._tally.members, mdc._tally.failed) == (0, ids.mask_of([1, 2]))


@pytest.mark.parametrize("intake", [{"clip_norm": 1.0}, {"group_size": 3, "method": "median"}])
def test_robust_mdcs_take_no_sums(intake: dict[str, Any]) -> None:
    mdc = center(1, 2, 3, known=4, **intake)
    refused, want = give(mdc, bundle(1, 2))
    assert isinstance(refused, Refused)
    assert want == Want(FIRST, mask(1, 2))


def test_there_is_room_for_a_bundle_that_is_wanted_whole() -> None:
    mdc = center(1, 2, 3)
    made, payload = bundle(1, 2)
    assert mdc.room(-1, made) >= memoryview(payload).nbytes
    assert mdc.room(-1, bundle(1, 9)[0]) == mdc.room(-1, bundle(1, stamp=NEXT)[0]) == 0
    assert mdc.room(-1, msgspec.structs.replace(made, first=1 << 60)) == 0
    assert mdc.room(-1, msgspec.structs.replace(made, first=-1)) == 0
    give(mdc, bundle(2))
    assert mdc.room(-1, made) == 0


def test_a_bundle_that_was_read_and_forgotten_is_not_counted() -> None:
    mdc = center(1, 2, 3)
    made, payload = bundle(1, 2)
    assert give(mdc, (made, Discarded(memoryview(payload).nbytes))) == []
    assert mdc._tally.held == 0


def test_pods_hear_whose_paths_somebody_asks_about() -> None:
    mdc = center(1, 2)
    watch = Watch(mask(2))
    assert Send(-1, watch) in mdc.received(0, watch, None, 1.0)
    mdc.opened(-2, 1.0)
    late = mdc.received(-2, Hello(WIRE_VERSION, "job", mask(1), -1, None), None, 1.0)
    assert said(late)[0] == watch


# -- the pod of homes --------------------------------------------------------------------------------------


def pod(*homes: int) -> Household:
    """On link 1 with MDC 0, which serves all of these; two of them in a bundle."""
    made = Household("job", homes, "npdc", together=2)
    made.tick(0.0)
    made.opened(0, 0.0)
    made.received(0, Located(mask(*homes), "at-0", 0, 0), None, 0.0)
    made.opened(1, 0.0)
    return made


def work(machine: Household, stamp: Stamp = FIRST, link: int = 1) -> list[Effect]:
    return machine.received(link, Work(0, stamp), WEIGHTS, 0.0)


def asked(effects: list[Effect]) -> list[list[int]]:
    return [ids.ids_of(e.homes) for e in effects if isinstance(e, ComputeMany)]


def done(machine: Household, effect: Effect) -> list[Effect]:
    assert isinstance(effect, ComputeMany)
    made = bundle(*ids.ids_of(effect.homes), stamp=effect.stamp, mdc=effect.mdc)
    return machine.bundled(effect, effect.homes, *made)


def test_neighbours_are_computed_together() -> None:
    assert asked(work(pod(1, 2, 3, 4, 5))) == [[1], [2, 3], [4, 5]]


def test_what_is_wanted_again_is_said_again_or_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = pod(2, 3, 4)
    first, second = work(machine)
    [sent] = done(machine, first)
    want = Want(FIRST, mask(2, 3, 4))
    assert machine.received(1, want, None, 1.0) == [sent]  # homes 4 is being computed
    assert asked(machine.received(1, Want(FIRST, mask(3)), None, 1.0)) == [[3]]
    monkeypatch.setattr(household, "KEPT_BYTES", 0)
    done(machine, second)
    assert asked(machine.received(1, Want(FIRST, mask(4)), None, 1.0)) == [[4]]


def test_homes_that_moved_while_they_were_added_up_get_bundles_of_their_own() -> None:
    machine = pod(2, 3)
    [both] = work(machine)
    machine.received(1, Moved(mask(3)), None, 1.0)
    machine.opened(2, 1.0)
    machine.received(2, Located(mask(3), "at-1", 1, 0), None, 1.0)
    machine.opened(3, 1.0)
    again = done(machine, both)
    assert asked(again) == [[2], [3]]
    sent = [effect for each in again for effect in done(machine, each)]
    links = [(e.link, e.message.mdc) for e in sent if isinstance(e, Send) and isinstance(e.message, Bundle)]
    assert links == [(1, 0), (3, 1)]


def test_a_new_model_makes_old_bundles_worthless() -> None:
    machine = pod(2, 3)
    [old] = work(machine)
    [new] = work(machine, NEXT)
    assert done(machine, old) == []
    [sent] = done(machine, new)
    assert isinstance(sent, Send)
    assert isinstance(sent.message, Bundle)
    assert sent.message.sum.stamp == NEXT
    assert asked(work(machine, Stamp(2, 0))) == [[2, 3]]


def test_windows_cut_sets_where_ids_are_multiples() -> None:
    for width in (3, 8, 64):
        homes = [0, 2, 3, 7, 8, 63, 64, 200, 4000, 4001]
        parts = [ids.ids_of(part) for part in ids.windows(ids.mask_of(homes), width)]
        assert [home for part in parts for home in part] == homes
        assert [{home // width for home in part} for part in parts] == [
            {number} for number in sorted({home // width for home in homes})
        ]
    assert list(ids.windows(0, 8)) == []
