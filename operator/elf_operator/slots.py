"""What planning a job that runs and one that does not have in common."""

from __future__ import annotations

from dataclasses import replace

from elf_operator import builders
from elf_operator.builders import Manifest
from elf_operator.observation import Observation
from elf_operator.spec import Spec
from elf_operator.status import Counts
from elf_worker.contract import Slot, Wiring


def vacate(slot: Slot) -> Slot:
    """Nobody may act for the slot; the next pod will be a new incarnation."""
    vacant = replace(slot, uid="", predecessor="", homes=frozenset())
    return replace(vacant, incarnation=slot.incarnation + 1) if slot.uid else vacant


def rewired(seen: Observation, wiring: Wiring) -> tuple[Manifest, ...]:
    """The ConfigMap, if this wiring says anything new."""
    if seen.wiring is not None:
        if replace(wiring, version=seen.wiring.version) == seen.wiring:
            return ()
        wiring = replace(wiring, version=seen.wiring.version + 1)
    return (builders.wiring_map(seen.job, wiring, seen.wiring_resource),)


def replaced_counts(seen: Observation) -> tuple[int, int]:
    """(MDCs, NPDCs) replaced because of a fault so far."""
    if seen.wiring is None:
        old = seen.status
        mdcs = (old.get("miniDataCenters") or {}).get("replaced", 0)
        return mdcs, (old.get("northPole") or {}).get("replaced", 0)
    return sum(s.replaced for s in seen.wiring.mdcs.values()), seen.wiring.npdc.replaced


def desired(spec: Spec | None) -> Counts:
    """What should be there, and nothing of what is."""
    return Counts(homes_desired=spec.homes, mdcs_desired=spec.mdcs) if spec else Counts()
