"""The dashboard's colours can be told apart: WCAG 2.2 AA, 4.5 to 1 for text and 3 to 1 for other marks."""

from __future__ import annotations

import re

import pytest

from documents import ROOT

[STYLE] = [path.read_text() for path in (ROOT / "operator").rglob("style.css")]
_FILLS = {"serving": "serving-fill", "dead": "dead-fill", "starting": "starting-fill"}
GROUNDS = ("ground", "card")
TEXT = [
    *[(word, on) for word in ("text", "soft", "accent") for on in GROUNDS],
    *[(word, on) for word in ("text", "soft") for on in (*_FILLS.values(), "stopped-fill")],
    *[(word, "card") for word in (*_FILLS, "home")],
    ("card", "home"),
    *_FILLS.items(),
]
"""(colour of the text, what it stands on)."""
SHAPES = [
    *[("home", on) for on in (*_FILLS.values(), "stopped-fill", "card")],
    *[(colour, "card") for colour in ("curve", "dead", "serving", "starting")],
    *_FILLS.items(),
]


def palettes() -> dict[str, dict[str, str]]:
    """Scheme → name → colour."""
    roots = re.findall(r":root \{(.*?)\}", STYLE, re.S)
    light, dark = (dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", root)) for root in roots)
    return {"light": light, "dark": {**light, **dark}}


def luminance(colour: str) -> float:
    """Relative luminance, as WCAG defines it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """From 1 to 21."""
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def cases(pairs: list[tuple[str, str]]) -> list[tuple[str, str, str]]:
    return [(scheme, above, below) for scheme in ("light", "dark") for above, below in pairs]


def test_the_measure_is_that_of_wcag() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize(("scheme", "above", "below"), cases(TEXT))
def test_text(scheme: str, above: str, below: str) -> None:
    colours = palettes()[scheme]
    assert contrast(colours[above], colours[below]) >= 4.5


@pytest.mark.parametrize(("scheme", "above", "below"), cases(SHAPES))
def test_shapes(scheme: str, above: str, below: str) -> None:
    colours = palettes()[scheme]
    assert contrast(colours[above], colours[below]) >= 3
