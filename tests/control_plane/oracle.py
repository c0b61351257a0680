"""Laws that hold over every run, whatever is done to the operator. Pure: it is told what happens."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

from control_plane.calls import Call
from elf_operator import names
from elf_worker.contract import WIRING_KEY, Role, Slot, Wiring

Body = Mapping[str, Any]
Place = tuple[str, int, int]
"""(role, index, incarnation)."""


class Oracle:
    """Judges one job. `broken` holds a sentence for each breach."""

    def __init__(self, job: str, uid: str, homes: int) -> None:
        self.job, self.uid, self.homes = job, uid, homes
        self.broken: list[str] = []
        self._live: dict[str, Place] = {}
        self._known: dict[str, Place] = {}
        """Every pod of the job that ever was, by UID."""
        self._wiring: Wiring | None = None
        self._named: dict[tuple[str, int], list[str]] = defaultdict(list)
        """The UIDs that the wiring has named for a slot, in their order."""
        self._incarnations: dict[tuple[str, int], int] = {}
        self._generation = 0
        self._end = ""
        self._deleted: list[tuple[Call, str]] = []

    def saw(self, kind: str, what: str, body: Body) -> None:
        """One version of one object."""
        if kind == "Pod" and self._owned(body):
            self._saw_pod(what, body)
        elif kind == "ConfigMap" and body["metadata"]["name"] == names.wiring(self.job):
            if what != "DELETED" and self._owned(body):
                self._saw_wiring(Wiring.from_json(body["data"][WIRING_KEY]))
        elif kind == "ElfTrainingJob" and body["metadata"]["uid"] == self.uid:
            self._saw_status(body.get("status") or {})

    def called(self, call: Call) -> None:
        """One call of an operator, with its answer if there was one."""
        if call.target.resource != "pods":
            return
        if call.target.verb == "delete":
            uid = (call.body.get("preconditions") or {}).get("uid", "")
            if not uid:
                self._breach(f"a delete without the pod's UID: {call}")
            elif call.committed:
                self._deleted.append((call, uid))
        elif call.target.verb == "create" and call.committed and not self._owned(call.answer):
            self._breach(f"a pod that is not the job's was created: {call}")

    def at_the_end(self) -> list[str]:
        """All breaches, those too that can only be told when everything has been seen."""
        found = list(self.broken)
        for call, uid in self._deleted:
            if uid not in self._known:
                found.append(f"a pod that is not the job's was deleted: {call}")
        for (role, index), uids in self._named.items():
            for uid in uids:
                if self._known.get(uid, ("", 0, 0))[:2] != (role, index):
                    found.append(f"the wiring named {uid} for {role} {index}, which is no pod of that slot")
        return found

    # -- laws ---------------------------------------------------------------------------------------------

    def _saw_pod(self, what: str, body: Body) -> None:
        meta, status = body["metadata"], body.get("status") or {}
        labels = meta["labels"]
        place = (
            labels[names.LABEL_ROLE],
            int(labels[names.LABEL_INDEX]),
            int(labels[names.LABEL_INCARNATION]),
        )
        self._known[meta["uid"]] = place
        over = status.get("phase") in ("Failed", "Succeeded")
        if what == "DELETED" or meta.get("deletionTimestamp") or over:
            self._live.pop(meta["uid"], None)
            return
        self._live[meta["uid"]] = place
        if list(self._live.values()).count(place) > 1:
            self._breach(f"two live pods for {place}")

    def _saw_wiring(self, wiring: Wiring) -> None:
        before, self._wiring = self._wiring, wiring
        if before is not None:
            if wiring.version < before.version:
                self._breach(f"the wiring fell from version {before.version} to {wiring.version}")
            if wiring.version == before.version and wiring != before:
                self._breach(f"two wirings of version {wiring.version}")
        self._judge_homes(wiring)
        self._judge_slot(str(Role.NPDC), 0, wiring.npdc)
        for index, slot in wiring.mdcs.items():
            self._judge_slot(str(Role.MDC), index, slot)

    def _judge_homes(self, wiring: Wiring) -> None:
        held = Counter(home for slot in wiring.mdcs.values() for home in slot.homes)
        for home, times in held.items():
            if times > 1:
                self._breach(f"home {home} is served by {times} MDCs in version {wiring.version}")
            if not 0 <= home < self.homes:
                self._breach(f"home {home} does not exist, but is served in version {wiring.version}")
        for index, slot in wiring.mdcs.items():
            if slot.homes and not slot.uid:
                self._breach(f"MDC {index} has homes and no pod in version {wiring.version}")

    def _judge_slot(self, role: str, index: int, slot: Slot) -> None:
        last = self._incarnations.get((role, index), 0)
        if slot.incarnation < last:
            self._breach(f"{role} {index} fell from incarnation {last} to {slot.incarnation}")
        self._incarnations[role, index] = max(last, slot.incarnation)
        named = self._named[role, index]
        if not slot.uid or (named and named[-1] == slot.uid):
            return
        if slot.uid in named:
            self._breach(f"{role} {index}: the wiring names {slot.uid} again, which it had replaced")
        named.append(slot.uid)

    def _saw_status(self, status: Body) -> None:
        generation = status.get("observedGeneration", 0)
        if generation < self._generation:
            self._breach(f"observedGeneration fell from {self._generation} to {generation}")
        self._generation = max(self._generation, generation)
        held = [c["type"] for c in status.get("conditions") or () if c["status"] == "True"]
        end = next((kind for kind in held if kind in ("Complete", "Failed")), "")
        if self._end and end != self._end:
            self._breach(f"the job was {self._end} and is {end or 'not'} now")
        self._end = end

    def _owned(self, body: Body) -> bool:
        references = (body.get("metadata") or {}).get("ownerReferences") or ()
        return any(ref.get("uid") == self.uid for ref in references)

    def _breach(self, sentence: str) -> None:
        self.broken.append(sentence)
