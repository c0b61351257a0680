"""Times as people read them."""

from __future__ import annotations


def age(seconds: float) -> str:
    """As kubectl writes ages: `45s`, `6m26s`, `3h12m`, `2d4h`; a little in the future counts as now."""
    whole = max(0, int(seconds))
    for unit, size, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size}{unit}" + (f"{rest}{smaller}" if rest else "")
    return f"{whole}s"
