"""Who issues what to whom, and when: over plans and simulated worlds."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from builders import DEFAULTS, NOW, actions, condition, job, observation, settled, valid, wiring_of, with_spec
from elf_operator import builders, identities, names, podbuilder
from elf_operator.__main__ import _parser
from elf_operator.builders import Defaults
from elf_operator.observation import Observation
from elf_operator.planner import plan
from elf_operator.plans import Plan
from elf_worker import contract
from elf_worker.contract import Peer, Role
from fakes import World, carry_out, settle
from pods import AUTHORITY, OTHER_AUTHORITY
from unit.operator.test_planner_worlds import SPOILERS

SECURED = Defaults(authority=AUTHORITY, network_policies=True)
UID = job().uid
TAG = hashlib.sha256(UID.encode()).hexdigest()[:8]


def decide(seen: Observation, defaults: Defaults = SECURED) -> Plan:
    return plan(seen, NOW, defaults)


def secrets(decided: Plan) -> dict[str, dict[str, Any]]:
    return {issue.name: issue.make() for issue in decided.issue}


def secured(seen: Observation) -> Observation:
    """The same job, begun with identities."""
    assert seen.wiring is not None
    return replace(seen, wiring=replace(seen.wiring, authority=AUTHORITY.fingerprint(UID)))


def world() -> World:
    return World(defaults=SECURED)


# -- what a job that begins gets ----------------------------------------------------------------------------


def test_every_pod_mounts_its_own_identity_and_no_other() -> None:
    decided = decide(observation())
    held = secrets(decided)
    for create in decided.create:
        meta, spec = create.manifest["metadata"], create.manifest["spec"]
        role, index = Role(meta["labels"][names.LABEL_ROLE]), int(meta["labels"][names.LABEL_INDEX])
        [volume] = [v["secret"] for v in spec["volumes"] if "secret" in v]
        data = held[volume["secretName"]]["data"]
        files = {item["path"]: base64.b64decode(data[item["key"]]) for item in volume["items"]}
        made = AUTHORITY.identity(Peer(UID, role, index, 0))
        assert files == {"tls.crt": made.certificate, "tls.key": made.key, "ca.crt": made.authority}
        assert volume["defaultMode"] == 0o400
        container = spec["containers"][0]
        mount = {"name": "identity", "mountPath": contract.IDENTITY_DIR, "readOnly": True}
        assert mount in container["volumeMounts"]
        assert {"name": contract.ENV_IDENTITY, "value": contract.IDENTITY_DIR} in container["env"]
    assert wiring_of(decided).authority == AUTHORITY.fingerprint(UID)  # type: ignore[union-attr]


def test_secrets_come_before_the_pods_and_never_change() -> None:
    decided = decide(observation())
    assert sorted(secrets(decided)) == sorted(
        f"sleigh-{who}-{TAG}" for who in ("npdc-0", "mdc-0-0", "mdc-1-0", "homes-0", "figures")
    )
    for secret in secrets(decided).values():
        assert secret["immutable"] is True
        assert secret["metadata"]["ownerReferences"] == [builders.owner(job())]


def test_thousands_of_homes_share_few_secrets() -> None:
    decided = decide(observation(job(homes={"replicas": 130})))
    shared = {name: len(secret["data"]) for name, secret in secrets(decided).items() if "-homes-" in name}
    assert shared == {f"sleigh-homes-{i}-{TAG}": 2 * identities.HOMES_PER_SECRET + 1 for i in range(3)}


def test_only_hashes_of_tokens_are_in_a_pod() -> None:
    decided = decide(observation())
    [token] = [s["data"]["token"] for name, s in secrets(decided).items() if "figures" in name]
    text = base64.b64decode(token).decode()
    assert text == AUTHORITY.figures_token(UID)
    for create in decided.create:
        assert text not in str(create.manifest) and AUTHORITY.scrape_token() not in str(create.manifest)
        env = {e["name"]: e.get("value") for e in create.manifest["spec"]["containers"][0]["env"]}
        home = create.manifest["metadata"]["labels"][names.LABEL_ROLE] == Role.HOME
        assert (contract.ENV_FIGURES_TOKENS in env) != home
        if not home:
            assert hashlib.sha256(text.encode()).hexdigest() in env[contract.ENV_FIGURES_TOKENS].split(",")


def test_an_earlier_job_of_this_name_has_other_secrets() -> None:
    earlier = replace(job(), uid="another")
    ours, theirs = (secrets(decide(observation(made))) for made in (job(), earlier))
    assert not ours.keys() & theirs.keys()


def test_a_job_has_a_network_policy_where_it_is_wanted() -> None:
    with_one, without = decide(observation()), decide(observation(), replace(SECURED, network_policies=False))
    [policy] = [m for m in with_one.apply if m["kind"] == "NetworkPolicy"]
    assert not [m for m in without.apply if m["kind"] == "NetworkPolicy"]
    ours = {"podSelector": {"matchLabels": {names.LABEL_JOB: "sleigh"}}}
    [wire] = policy["spec"]["ingress"]
    assert policy["spec"]["podSelector"] == ours["podSelector"] and policy["spec"]["policyTypes"] == [
        "Ingress"
    ]
    assert (wire["from"], [p["port"] for p in wire["ports"]]) == ([ours], [contract.WIRE_PORT])


def test_figures_are_let_in_to_who_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ELF_FIGURES_FROM", '[{"podSelector": {"matchLabels": {"reads": "figures"}}}]')
    reader = {"podSelector": {"matchLabels": {"reads": "figures"}}}
    peers = tuple(_parser().parse_args([]).figures_from)
    made = decide(observation(), replace(SECURED, figures_from=peers))
    [policy] = [m for m in made.apply if m["kind"] == "NetworkPolicy"]
    wire, figures = policy["spec"]["ingress"]
    assert reader not in wire["from"]
    assert (figures["from"], [p["port"] for p in figures["ports"]]) == ([reader], [contract.FIGURES_PORT])


@pytest.mark.parametrize("text", ["monitoring", "{}", '[{"podSelecter": {}}]', "[{}]"])
def test_peers_that_are_none_are_refused_by_the_flag_s_name(
    capsys: pytest.CaptureFixture[str], text: str
) -> None:
    with pytest.raises(SystemExit):
        _parser().parse_args([f"--figures-from={text}"])
    said = capsys.readouterr().err
    assert "--figures-from" in said and repr(text) in said and "expected" in said


@pytest.mark.parametrize("role", Role)
def test_without_an_authority_nothing_of_it_is_there(role: Role) -> None:
    made = job()
    text = str(podbuilder.pod(made, valid(made), DEFAULTS, role, 0, 0))
    assert "identity" not in text.lower() and contract.ENV_FIGURES_TOKENS not in text
    assert not secrets(decide(observation(), DEFAULTS))


# -- replacement --------------------------------------------------------------------------------------------


def test_a_successor_has_a_new_identity_and_the_old_one_goes() -> None:
    seen = secured(settled())
    lost = replace(seen, pods=tuple(p for p in seen.pods if p.name != "sleigh-mdc-1-0"))
    assert actions(decide(lost)) == [
        "apply ConfigMap",
        f"remove Secret sleigh-mdc-1-0-{TAG}",
        "apply Secret",
        "create sleigh-mdc-1-1",
    ]
    assert list(secrets(decide(lost))) == [f"sleigh-mdc-1-1-{TAG}"]


def test_a_retired_data_center_loses_its_identity() -> None:
    seen = secured(settled())
    fewer = replace(with_spec(seen, miniDataCenters={"replicas": 1}), wiring=seen.wiring)
    assert f"remove Secret sleigh-mdc-1-0-{TAG}" in actions(decide(fewer))


@pytest.mark.parametrize("calls", [0, 1, 4, 8])
@pytest.mark.parametrize("spoil", SPOILERS, ids=lambda spoil: spoil.__name__)
def test_wherever_the_operator_dies_every_pod_finds_its_identity(
    spoil: Callable[[World], None], calls: int
) -> None:
    """The world's oracle looks at each pod that is created."""
    there = world()
    settle(there)
    there.train(round=3)
    spoil(there)
    carry_out(there, plan(there.observe(), there.now, SECURED), calls)
    settle(there)
    for name, pod in there.pods.items():
        secret = identities.secret_name("sleigh", UID, pod.role, pod.index, pod.incarnation)
        assert ("Secret", secret) in there.objects, f"{name} could not start again"


# -- jobs that began otherwise ------------------------------------------------------------------------------


def test_a_job_that_began_without_identities_goes_on_without() -> None:
    seen = settled()
    lost = replace(seen, pods=tuple(p for p in seen.pods if p.name != "sleigh-mdc-1-0"))
    assert decide(lost) == plan(lost, NOW, replace(DEFAULTS, network_policies=True))


@pytest.mark.parametrize(
    "defaults", [DEFAULTS, replace(SECURED, authority=OTHER_AUTHORITY)], ids=["no key", "another key"]
)
def test_a_job_whose_authority_is_gone_is_left_as_it_is(defaults: Defaults) -> None:
    seen = secured(settled())
    lost = replace(seen, pods=tuple(p for p in seen.pods if p.name != "sleigh-mdc-1-0"))
    decided = decide(lost, defaults)
    assert actions(decided) == []
    said = condition(decided.status, "Degraded")
    assert said["reason"] == "AuthorityChanged" and "suspended and resumed" in said["message"]
    assert [e.reason for e in decided.events] == ["AuthorityChanged"]


@pytest.mark.parametrize(
    "defaults", [DEFAULTS, replace(SECURED, authority=OTHER_AUTHORITY)], ids=["no key", "another key"]
)
def test_suspended_and_resumed_it_goes_on_with_what_there_is(defaults: Defaults) -> None:
    there = world()
    settle(there)
    there.defaults = defaults
    there.suspend(True)
    settle(there)
    there.suspend(False)
    settle(there)
    wanted = defaults.authority.fingerprint(UID) if defaults.authority else ""
    assert there.wiring().authority == wanted  # type: ignore[union-attr]
    assert there.status["state"] == "Running" and there.status["replaced"] == 0
