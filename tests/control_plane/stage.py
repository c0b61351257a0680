"""One job in one namespace, with its puppets, its operators behind their doors, and its judge."""

from __future__ import annotations

import asyncio
import contextlib
import json
import pathlib
import re
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from control_plane.api import JOBS, MERGE, Api
from control_plane.calls import Call
from control_plane.faults import Schedule
from control_plane.mirror import Mirror
from control_plane.oracle import Oracle
from control_plane.proxy import Door
from control_plane.puppets import Puppets
from control_plane.zygote import Operator, Zygote
from elf_operator import names
from elf_worker.contract import WIRING_KEY, Role, Wiring

MASTER_KEY = "master-key"
"""A Secret in each namespace; operators fill it."""
HOMES = 6
QUIET_SECONDS = 0.8
"""Without a write for so long, a step of a scenario is over."""
REST_SECONDS = 2.0
"""Nothing is written for so long after the end."""
PATIENCE_SECONDS = 150.0
"""For a step, after the last fault. An operator that has missed an event looks again after 60 s."""
RESTART_SECONDS = 0.1
NOBODY = {"template": {"spec": {"schedulerName": "nobody"}}}
SPEC: dict[str, Any] = {
    "image": "puppet",
    "task": {"entrypoint": "elf_worker.tasks.digits:Digits"},
    "rounds": 1_000_000,
    "homes": {"replicas": HOMES, **NOBODY},
    "miniDataCenters": {"replicas": 3, **NOBODY},
    "northPole": NOBODY,
    "failurePolicy": {"mdcTimeoutSeconds": 30},
}
LEVEL = re.compile(r"\S+ \S+ (WARNING|ERROR|CRITICAL) ")
"""How a line of an operator's log begins that tells of trouble."""
SAFE: dict[str, Any] = {
    "allowPrivilegeEscalation": False,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


@dataclass
class Lab:
    """What all stages share."""

    api: Api
    zygote: Zygote
    nodes: Sequence[str]
    folder: pathlib.Path
    namespaces: asyncio.Queue[str]
    count: int = 0


@dataclass
class Manned:
    """An operator that is started again when it ends, as its Deployment would do."""

    door: Door
    args: Sequence[str]
    process: Operator | None = None
    codes: list[int] = field(default_factory=list)
    """Exit codes of those that have ended."""
    wanted: bool = True


class Stage:
    """See the module."""

    def __init__(self, lab: Lab, namespace: str, job: str, title: str) -> None:
        self.lab, self.namespace, self.job, self.title = lab, namespace, job, title
        self.api = lab.api
        self.mirror = Mirror(lab.api, namespace)
        self.operators: list[Manned] = []
        self.finished = False
        self._tasks: list[asyncio.Task[None]] = []
        self._bystanders: dict[str, str] = {}
        self.began = time.monotonic()
        self.folder = lab.folder / f"{job}"

    # -- setting up ---------------------------------------------------------------------------------------

    async def open(self, **spec: Any) -> None:
        """The job is there; nobody acts on it yet."""
        self.folder.mkdir()
        await self.mirror.open()
        await self._place_bystanders()
        body = {
            "apiVersion": "northpole.dev/v1alpha1",
            "kind": "ElfTrainingJob",
            "metadata": {"name": self.job, "namespace": self.namespace},
            "spec": {**SPEC, **spec},
        }
        made = await self.api.request("POST", self._jobs(), body)
        self.uid = made["metadata"]["uid"]
        self.oracle = Oracle(self.job, self.uid, HOMES)
        self.mirror.listeners.append(self.oracle.saw)
        self.puppets = Puppets(self.api, self.mirror, self.job, self.uid, self.lab.nodes)
        await self.puppets.open()

    async def close(self) -> None:
        """Nothing of the job stays."""
        for manned in self.operators:
            await self.stop(manned)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if hasattr(self, "puppets"):
            await self.puppets.close()
        await self.mirror.close()
        for manned in self.operators:
            await manned.door.close()
        await self.api.unless(404, "DELETE", self._jobs(self.job), {"propagationPolicy": "Background"})
        core = f"api/v1/namespaces/{self.namespace}"
        query = {"labelSelector": f"{names.LABEL_JOB}={self.job}"}
        await self.api.request("DELETE", f"{core}/pods", {"gracePeriodSeconds": 0}, query)
        for kind in ("configmaps", "secrets"):
            await self.api.request("DELETE", f"{core}/{kind}", None, query)

    async def _place_bystanders(self) -> None:
        """Things that look like ours and are not: with our labels and no owner, or another one."""
        core = f"api/v1/namespaces/{self.namespace}"
        labels = names.pod_labels(self.job, Role.MDC, 0, 7)
        plain = {"name": f"{self.job}-notes", "labels": names.labels(self.job)}
        notes = {"metadata": plain, "data": {WIRING_KEY: "not ours"}}
        other = await self.api.request("POST", f"{core}/configmaps", notes)
        owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": plain["name"]}
        owner["uid"] = other["metadata"]["uid"]
        owned = {"name": f"{self.job}-mdc-0-7", "labels": labels, "ownerReferences": [owner]}
        for meta in (owned, {"name": f"{self.job}-mdc-0-8", "labels": labels}, {"name": f"{self.job}-x"}):
            await self.stranger(meta)

    async def stranger(self, meta: dict[str, Any]) -> None:
        """A pod that is not the job's. It is expected to stay as it is."""
        body = {"metadata": meta, "spec": stranger_spec()}
        path = f"api/v1/namespaces/{self.namespace}/pods"
        made = await self.api.request("POST", path, body)
        self._bystanders[meta["name"]] = made["metadata"]["uid"]

    async def dismiss(self, name: str) -> None:
        """A stranger leaves; until now it must have been left alone."""
        path = f"api/v1/namespaces/{self.namespace}/pods/{name}"
        here = await self.api.get(path)
        uid = self._bystanders.pop(name)
        assert here is not None and here["metadata"]["uid"] == uid, f"{name} is not the job's, and gone"
        await self.api.request("DELETE", path, {"gracePeriodSeconds": 0})

    # -- operators ----------------------------------------------------------------------------------------

    async def operator(self, *flags: str, schedule: Schedule | None = None) -> Manned:
        """Start one more operator, behind a door of its own."""
        door = Door(f"operator {len(self.operators)}", self.api)
        door.schedule = schedule
        await door.open()
        door.listeners.append(self.oracle.called)
        secured = ("--master-key", f"{self.namespace}/{MASTER_KEY}", "--network-policies")
        manned = Manned(door, ("--namespace", self.namespace, *secured, *flags))
        self.operators.append(manned)
        await self.start(manned)
        return manned

    async def start(self, manned: Manned) -> None:
        """Start it, and again whenever it ends."""
        manned.wanted = True
        begun = asyncio.Event()
        self._tasks.append(asyncio.create_task(self._supervise(manned, begun)))
        await begun.wait()

    async def _supervise(self, manned: Manned, begun: asyncio.Event) -> None:
        number = self.operators.index(manned)
        config = manned.door.kubeconfig(self.folder / f"{number}.conf", self.namespace)
        env = {"KUBECONFIG": str(config)}
        while manned.wanted:
            log = self.folder / f"operator-{number}.log"
            manned.process = await self.lab.zygote.spawn(manned.args, env, log)
            begun.set()
            manned.codes.append(await manned.process.ended)
            manned.door.cut()
            await asyncio.sleep(RESTART_SECONDS)

    async def stop(self, manned: Manned) -> None:
        """SIGKILL, and no successor."""
        manned.wanted = False
        if manned.process is not None:
            await manned.process.kill()

    def spring(self, manned: Manned) -> Callable[[], None]:
        """What a trap does: SIGKILL. A successor follows."""

        def kill() -> None:
            assert manned.process is not None
            manned.process.signal(signal.SIGKILL)

        return kill

    @property
    def mutations(self) -> list[Call]:
        """Of all operators, in the order of their coming."""
        calls = (call for manned in self.operators for call in manned.door.mutations)
        return sorted(calls, key=lambda call: call.at)

    # -- the world ----------------------------------------------------------------------------------------

    def _jobs(self, name: str = "") -> str:
        return f"{JOBS}/namespaces/{self.namespace}/elftrainingjobs/{name}".rstrip("/")

    async def edit(self, **spec: Any) -> None:
        """Change the job's spec, as a user would."""
        made = await self.api.request("PATCH", self._jobs(self.job), {"spec": spec}, None, MERGE)
        wanted = made["metadata"]["generation"]
        await self.until("the edit shows", lambda: self.body()["metadata"]["generation"] >= wanted)

    def body(self) -> dict[str, Any]:
        """The job as last seen."""
        return self.mirror.objects["ElfTrainingJob"].get(self.job, {})

    def data_center(self, index: int | None = None) -> str:
        """The name of the pod that the wiring names for an MDC, or for the NPDC."""
        wiring = self.puppets.wiring()
        assert wiring is not None
        slot = wiring.npdc if index is None else wiring.mdcs[index]
        found = [p for p in self.puppets.pods() if p["metadata"]["uid"] == slot.uid]
        return str(found[0]["metadata"]["name"])

    async def end(self, name: str, code: int = 137) -> None:
        """The container of a pod ends for good."""
        uid = self.puppets.pod(name)["metadata"]["uid"]
        await self.puppets.end(name, "Failed", code)
        await self.until(f"{name} has failed", lambda: self._is_over(name, uid))

    async def evict(self, name: str) -> None:
        """Somebody deletes a pod."""
        uid = self.puppets.pod(name)["metadata"]["uid"]
        await self.api.unless(404, "DELETE", f"api/v1/namespaces/{self.namespace}/pods/{name}")
        await self.until(f"{name} is leaving", lambda: self._is_over(name, uid))

    def _is_over(self, name: str, uid: str) -> bool:
        pod = self.mirror.objects["Pod"].get(name)
        if pod is None or pod["metadata"]["uid"] != uid or pod["metadata"].get("deletionTimestamp"):
            return True
        return pod["status"].get("phase") in ("Failed", "Succeeded")

    async def lose(self, index: int) -> None:
        """The NPDC hears nothing from an MDC any more."""
        self.puppets.unreachable.add(self.puppets.pod(self.data_center(index))["metadata"]["uid"])

    async def finish(self) -> None:
        """Training ends."""
        self.finished = True
        await self.puppets.finish()

    def unsettled(self) -> str:
        """Why the world is not as the job says; empty if it is."""
        job = self.body()
        status, spec = job.get("status") or {}, job.get("spec") or {}
        state = status.get("state", "")
        if status.get("observedGeneration") != job.get("metadata", {}).get("generation"):
            return "the spec was not looked at"
        pods = self.puppets.pods()
        if spec.get("suspend"):
            return "" if state == "Suspended" and not pods else f"{state}, {len(pods)} pods"
        if self.finished:
            left = [p for p in pods if p["status"].get("phase") not in ("Succeeded", "Failed")]
            return "" if state == "Complete" and not left else f"{state}, {len(left)} pods run"
        if state != "Running":
            return f"the state is {state}"
        if not all("recoverySeconds" in entry for entry in status.get("lastReplacements", ())):
            return "a replacement is not over"
        return self._unfilled(spec["miniDataCenters"]["replicas"], pods)

    def _unfilled(self, mdcs: int, pods: list[dict[str, Any]]) -> str:
        wiring = self.puppets.wiring()
        if wiring is None:
            return "there is no wiring"
        for pod in pods:
            serves = pod["status"].get("phase") == "Running" and not pod["metadata"].get("deletionTimestamp")
            if not serves or pod["metadata"]["uid"] in self.puppets.unreachable:
                return f"{pod['metadata']['name']} does not serve"
        wired = {wiring.npdc.uid, *(slot.uid for i, slot in wiring.mdcs.items() if i < mdcs)}
        centers = {p["metadata"]["uid"] for p in pods if p["metadata"]["labels"][names.LABEL_ROLE] != "home"}
        if wired != centers or len(wired) != mdcs + 1:
            return f"the wiring names {len(wired & centers)} of {len(centers)} data centers"
        if len(pods) - len(centers) != HOMES:
            return f"there are {len(pods) - len(centers)} pods of homes"
        current = {i: slot for i, slot in sorted(wiring.mdcs.items()) if i < mdcs}
        served = [{"mdc": i, "incarnation": s.incarnation, "homes": len(s.homes)} for i, s in current.items()]
        status = self.body()["status"]
        if served != status["assignments"]:
            return f"assigned is {served}, the status says {status['assignments']}"
        if status["replaced"] != wiring.npdc.replaced + sum(s.replaced for s in wiring.mdcs.values()):
            return f"the status counts {status['replaced']} replacements, the wiring others"
        sizes = [len(slot.homes) for slot in current.values()]
        return "" if sum(sizes) == HOMES and max(sizes) - min(sizes) < 2 else f"homes are split {sizes}"

    async def until(self, what: str, condition: Callable[[], Any], seconds: float = PATIENCE_SECONDS) -> None:
        """Wait for a condition. Raises AssertionError saying `what`."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
            await asyncio.sleep(0.05)

    async def settle(self) -> None:
        """The world is as the job says, and nothing more is written. Each fault costs new patience."""
        deadline, faults = time.monotonic() + PATIENCE_SECONDS, 0
        while True:
            if (struck := sum(len(manned.door.faults) for manned in self.operators)) > faults:
                deadline, faults = time.monotonic() + PATIENCE_SECONDS, struck
            last = max((call.at for call in self.mutations), default=self.began)
            why = self.unsettled()
            if not why and time.monotonic() - last > QUIET_SECONDS:
                return
            assert time.monotonic() < deadline, f"not within {PATIENCE_SECONDS:g} s: {why or 'writes go on'}"
            await asyncio.sleep(0.05)

    async def still(self, seconds: float) -> None:
        """Time passes: that nothing happens can only be seen by waiting."""
        await asyncio.sleep(seconds)

    async def rest(self) -> None:
        """Nothing is written for a while, and no law was broken."""
        for manned in self.operators:
            if manned.door.schedule is not None:
                manned.door.schedule.stop()
        # A rival's pass may be under way still, and write what it has seen, and then what is.
        for _ in self.operators:
            await self.settle()
            before = len(self.mutations)
            await self.still(REST_SECONDS)
            late = self.mutations[before:]
            if not late:
                break
        assert not late, f"written after everything was as it should be: {[str(c) for c in late]}"
        core = f"api/v1/namespaces/{self.namespace}"
        for name, uid in self._bystanders.items():
            here = await self.api.get(f"{core}/pods/{name}")
            assert here is not None and here["metadata"]["uid"] == uid, f"{name} is not the job's, and gone"
            assert not here["metadata"].get("deletionTimestamp"), f"{name} is not the job's, and deleted"
        notes = await self.api.get(f"{core}/configmaps/{self.job}-notes")
        assert notes is not None and notes["data"] == {WIRING_KEY: "not ours"}, "the notes were touched"
        await self._find_identities()
        broken = self.oracle.at_the_end()
        assert not broken, "; ".join(broken)

    async def _find_identities(self) -> None:
        """Every pod of the job that may start again can."""
        core = f"api/v1/namespaces/{self.namespace}"
        query = {"labelSelector": names.selector(self.job)}
        for pod in (await self.api.request("GET", f"{core}/pods", None, query))["items"]:
            if not any(ref["uid"] == self.uid for ref in pod["metadata"].get("ownerReferences") or ()):
                continue
            name, volumes = pod["metadata"]["name"], pod["spec"].get("volumes") or ()
            for wanted in (v["secret"] for v in volumes if v["name"] == names.IDENTITY_VOLUME):
                held = await self.api.get(f"{core}/secrets/{wanted['secretName']}")
                assert held is not None, f"{name} has no Secret {wanted['secretName']}"
                assert {item["key"] for item in wanted["items"]} <= held["data"].keys(), name

    async def outcome(self) -> dict[str, Any]:
        """What a run has led to, without what differs from run to run: times, UIDs, versions."""
        core = f"api/v1/namespaces/{self.namespace}"
        rbac = f"apis/rbac.authorization.k8s.io/v1/namespaces/{self.namespace}"
        query = {"labelSelector": names.selector(self.job)}
        name = names.npdc(self.job)
        pods, wiring, service, account, role, binding, job = await asyncio.gather(
            self.api.request("GET", f"{core}/pods", None, query),
            self.api.get(f"{core}/configmaps/{names.wiring(self.job)}"),
            self.api.get(f"{core}/services/{name}"),
            self.api.get(f"{core}/serviceaccounts/{name}"),
            self.api.get(f"{rbac}/roles/{name}"),
            self.api.get(f"{rbac}/rolebindings/{name}"),
            self.api.request("GET", self._jobs(self.job)),
        )
        uids = {p["metadata"]["uid"]: p["metadata"]["name"] for p in pods["items"]}
        made = {
            "pods": sorted([p["metadata"]["name"], p["status"].get("phase")] for p in pods["items"]),
            "wiring": _wiring(wiring, uids),
            "selector": (service or {}).get("spec", {}).get("selector"),
            "account": [thing is not None for thing in (service, account, role, binding)],
            "status": _status(job),
        }
        # The job's name differs too.
        return dict(json.loads(json.dumps(made).replace(self.job, "JOB")))

    def warnings(self) -> list[str]:
        """What operators have logged as a warning or worse."""
        logs = sorted(self.folder.glob("operator-*.log"))
        lines = [line for log in logs for line in log.read_text().splitlines()]
        return [line for line in lines if LEVEL.match(line)]

    def story(self) -> str:
        """Everything a person would look at after a failure."""
        out = [f"--- {self.title}: {self.namespace}/{self.job}"]
        wiring = self.puppets.wiring() if hasattr(self, "puppets") else None
        out.append(f"wiring: {wiring.to_json() if wiring else None}")
        out.append(f"status: {json.dumps(self.body().get('status'))[:3000]}")
        for pod in self.puppets.pods() if hasattr(self, "puppets") else ():
            meta, status = pod["metadata"], pod["status"]
            gone = ", being deleted" if meta.get("deletionTimestamp") else ""
            out.append(f"  {meta['name']} {meta['uid']} {status.get('phase')}{gone}")
        for manned in self.operators:
            door = manned.door
            out.append(f"--- {door.name}: exit codes {manned.codes}, faults {door.faults}")
            out += [str(call) for call in door.calls][-60:]
        for log in sorted(self.folder.glob("operator-*.log")):
            out.append(f"--- {log.name}\n" + "\n".join(log.read_text().splitlines()[-120:]))
        return "\n".join(out)


def _wiring(body: dict[str, Any] | None, uids: dict[str, str]) -> Any:
    if body is None:
        return None
    wiring = Wiring.from_json(body["data"][WIRING_KEY])

    def slot(role: Role, index: int) -> dict[str, Any]:
        found = wiring.npdc if role is Role.NPDC else wiring.mdcs[index]
        return {
            "incarnation": found.incarnation,
            "pod": uids.get(found.uid, found.uid),
            "replaced": found.replaced,
            "failures": found.failures,
            "waits": found.not_before > 0,
            "nodes": len(found.nodes),
        }

    return {
        # Who serves which homes depends on who was ready first; `settle` has seen that loads are even.
        "homes": sorted(home for slot in wiring.mdcs.values() for home in slot.homes),
        "npdc": slot(Role.NPDC, 0),
        "mdcs": {str(i): slot(Role.MDC, i) for i in sorted(wiring.mdcs)},
        "recipe": wiring.recipe,
    }


def _status(job: dict[str, Any]) -> dict[str, Any]:
    status = {k: v for k, v in (job.get("status") or {}).items() if k != "training"}
    for key in ("startTime", "completionTime"):
        status[key] = key in status
    status["assignments"] = [[a["mdc"], a["incarnation"]] for a in status.get("assignments", ())]
    for condition in status.get("conditions", ()):
        condition.pop("lastTransitionTime")
    status["lastReplacements"] = [
        {"pod": r["pod"], "reason": r["reason"], "message": r["message"], "over": "recoverySeconds" in r}
        for r in status.get("lastReplacements", ())
    ]
    return status


def stranger_spec() -> dict[str, Any]:
    """Of a pod that nobody schedules."""
    container = {"name": "x", "image": "puppet", "securityContext": SAFE}
    return {"schedulerName": "nobody", "automountServiceAccountToken": False, "containers": [container]}


@contextlib.asynccontextmanager
async def stage(lab: Lab, title: str, **spec: Any) -> AsyncIterator[Stage]:
    """A stage of one's own, as soon as a namespace is free. A failure tells its story."""
    namespace = await lab.namespaces.get()
    lab.count += 1
    made = Stage(lab, namespace, f"job{lab.count}", title)
    try:
        await made.open(**spec)
        yield made
    except AssertionError as error:
        for manned in made.operators:
            if manned.process is not None:
                manned.process.signal(signal.SIGUSR1)
        await asyncio.sleep(0.5)
        raise AssertionError(f"{title}: {error}\n{made.story()}") from error
    finally:
        await made.close()
        lab.namespaces.put_nowait(namespace)
