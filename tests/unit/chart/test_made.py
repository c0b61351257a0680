"""What is made from the chart is as the chart makes it; run `make manifests` where this fails."""

from __future__ import annotations

import importlib.util
import pathlib
import sys
import tomllib
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import yaml

from unit.chart.rendered import CHART, ROOT, leaves

MANIFESTS = ROOT / "manifests"


@pytest.fixture(scope="module")
def render() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("render", ROOT / "charts" / "render.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # A dataclass looks its own module up.
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "render", module)
        spec.loader.exec_module(module)
        yield module


def test_nothing_has_drifted(render: ModuleType, helm: str) -> None:
    made = render.made(helm)
    assert len(made) == 5
    different = [
        str(path.relative_to(ROOT))
        for path, text in made.items()
        if not path.exists() or path.read_bytes() != text.encode()
    ]
    assert not different, "run `make manifests`"


def test_a_file_without_a_place_for_the_table_is_refused_by_name(
    render: ModuleType, helm: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docs = tmp_path / "install.md"
    docs.write_text("no table here\n")
    monkeypatch.setattr(render, "DOCS", docs)
    with pytest.raises(RuntimeError, match=r"install\.md"):
        render.made(helm)


def test_the_table_has_every_value_with_a_word_on_it(render: ModuleType) -> None:
    text = (CHART / "values.yaml").read_text()
    found, defaults = list(render.values(text)), yaml.safe_load(text)
    assert [v.path for v in found] == list(leaves(defaults))
    for value in found:
        assert len(value.text) > 4 and value.text.endswith("."), value.path
        default = defaults
        for step in value.path.split("."):
            default = default[step]
        assert yaml.safe_load(value.default) == default, value.path


def everything() -> dict[str, list[dict[str, Any]]]:
    return {p.name: list(yaml.safe_load_all(p.read_text())) for p in MANIFESTS.glob("*.yaml")}


def test_kustomize_takes_in_every_manifest() -> None:
    listed = yaml.safe_load((MANIFESTS / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == sorted(set(everything()) - {"kustomization.yaml"})


def test_manifests_keep_the_names_that_others_rely_on() -> None:
    found = everything()
    names = {
        (o["kind"], o["metadata"].get("namespace", ""), o["metadata"]["name"])
        for name in ("crd.yaml", "rbac.yaml", "operator.yaml")
        for o in found[name]
    }
    home, name = "elf-system", "elf-operator"
    assert names >= {
        ("CustomResourceDefinition", "", "elftrainingjobs.northpole.dev"),
        ("Namespace", "", home),
        ("ServiceAccount", home, name),
        ("ClusterRole", "", name),
        ("ClusterRoleBinding", "", name),
        ("Role", home, name),
        ("RoleBinding", home, name),
        ("Deployment", home, name),
    }
    assert found["rbac.yaml"][0]["kind"] == "Namespace", "what is in it comes after it"
    (deployment,) = found["operator.yaml"]
    pod = deployment["spec"]["template"]
    assert pod["metadata"]["labels"]["app.kubernetes.io/name"] == name
    assert pod["spec"]["containers"][0]["env"][0]["name"] == "ELF_WORKER_IMAGE"


def test_manifests_do_not_say_that_helm_manages_them() -> None:
    text = "".join(path.read_text() for path in MANIFESTS.glob("*.yaml"))
    assert "helm.sh" not in text and "managed-by:" not in text


def test_the_chart_is_of_the_version_of_the_code() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == project["version"]
    images = yaml.safe_load(chart["annotations"]["artifacthub.io/images"])
    assert all(image["image"].endswith(f":{project['version']}") for image in images)


def test_artifact_hub_is_told_of_the_crd_as_it_is() -> None:
    crd = yaml.safe_load((MANIFESTS / "crd.yaml").read_text())
    annotations = yaml.safe_load((CHART / "Chart.yaml").read_text())["annotations"]
    (told,) = yaml.safe_load(annotations["artifacthub.io/crds"])
    assert told["name"] == crd["metadata"]["name"]
    assert told["kind"] == crd["spec"]["names"]["kind"]
    assert told["version"] == crd["spec"]["versions"][0]["name"]
