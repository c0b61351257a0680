"""A pod template laid over what the operator wants of a pod."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def with_template(manifest: Mapping[str, Any], template: Mapping[str, Any]) -> dict[str, Any]:
    """The user's labels, annotations and pod spec merged in; what ties the pod to its job stays ours."""
    meta = manifest["metadata"]
    theirs = part(template, "metadata")
    merged: dict[str, Any] = {**manifest, "spec": merge(manifest["spec"], part(template, "spec"))}
    merged["metadata"] = {**meta, "labels": {**part(theirs, "labels"), **meta["labels"]}}
    if annotations := part(theirs, "annotations"):
        merged["metadata"]["annotations"] = dict(annotations)
    return merged


def part(whole: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """An object within a template; what is no object says nothing."""
    found = whole.get(key)
    return found if isinstance(found, Mapping) else {}


def merge(base: Any, overlay: Any) -> Any:
    """`overlay` laid over `base`, neither changed: objects by key, lists of objects by their key.

    That key is `mountPath` where all have one, else `name`. Any other value of the overlay replaces the
    base's; null in the overlay removes a key.
    """
    if isinstance(overlay, Mapping):
        out = dict(base) if isinstance(base, Mapping) else {}
        for key, value in overlay.items():
            if value is None:
                out.pop(key, None)
            else:
                out[key] = merge(out.get(key), value)
        return out
    for key in ("mountPath", "name"):
        if _keyed(base, key) and _keyed(overlay, key):
            own = {item[key]: item for item in base}
            laid = {item[key]: merge(own.get(item[key]), item) for item in overlay}
            return list({**own, **laid}.values())
    return overlay


def _keyed(value: Any, key: str) -> bool:
    return isinstance(value, list) and all(isinstance(v, Mapping) and key in v for v in value)
