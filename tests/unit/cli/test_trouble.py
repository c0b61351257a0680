"""What goes wrong with a cluster, as sentences that say what to do."""

from __future__ import annotations

import json

import pytest

from elf_cli.cluster import trouble

FORBIDDEN = (
    'pods "sleigh-mdc-0-0" is forbidden: User "rudolph" cannot get resource "pods/log" in API group "" '
    'in the namespace "town"'
)
CLUSTER_WIDE = (
    'elftrainingjobs.northpole.dev is forbidden: User "rudolph" cannot list resource "elftrainingjobs" '
    'in API group "northpole.dev" at the cluster scope'
)


def status(message: str) -> str:
    return json.dumps({"kind": "Status", "message": message})


@pytest.mark.parametrize(
    ("code", "body", "said"),
    [
        (
            403,
            status(FORBIDDEN),
            "elf: rudolph may not get pods/log in namespace town; a Role that is bound to it needs the rule "
            '{apiGroups: [""], resources: [pods/log], verbs: [get]}',
        ),
        (
            403,
            status(CLUSTER_WIDE),
            "elf: rudolph may not list elftrainingjobs at the scope of the cluster; a ClusterRole that is "
            'bound to it needs the rule {apiGroups: ["northpole.dev"], resources: [elftrainingjobs], '
            "verbs: [list]}",
        ),
        (403, status("exceeded quota"), "elf: HTTP 403 Because: exceeded quota"),
        (
            401,
            "",
            "elf: the API server does not know you (HTTP 401): log in again, or choose another --context",
        ),
        (404, "404 page not found\n", trouble.no_crd()),
        (404, status("the server could not find the requested resource"), trouble.no_crd()),
        (404, status('pods "x" not found'), 'elf: HTTP 404 Because: pods "x" not found'),
        (500, b"a\n b", "elf: HTTP 500 Because: a b"),
        (500, "", "elf: HTTP 500 Because"),
    ],
)
def test_an_answer_in_one_sentence(code: int, body: str | bytes, said: str) -> None:
    assert trouble.of_answer("elf", code, "Because", body) == said


@pytest.mark.parametrize(
    ("here", "elsewhere", "said"),
    [
        (["sleigh", "cookies"], [], "did you mean sleigh?"),
        (["cookies", "toys"], [], "there are cookies, toys"),
        ([f"job{i}" for i in range(9)], [], "there are job0, job1, job2, job3, job4 and more"),
        ([], [], "and no other either; elf status -A"),
        (["sleigh"], ["pole", "town"], "there is one in pole, town: say -n pole"),
    ],
)
def test_a_job_that_is_not_there(here: list[str], elsewhere: list[str], said: str) -> None:
    text = trouble.no_such_job("sleihg", "north", here, elsewhere)
    assert (
        text.startswith("sleihg: there is no ElfTrainingJob of this name in namespace north") and said in text
    )
