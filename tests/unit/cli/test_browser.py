"""`--dashboard`: its address, with and without."""

from __future__ import annotations

import socket

import pytest

from elf_cli.local.browser import DEFAULT, DashboardError, parse_address, shown, with_default


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["run", "j.yaml", "--dashboard"], ["run", "j.yaml", "--dashboard", DEFAULT]),
        (["run", "--dashboard", "j.yaml"], ["run", "--dashboard", DEFAULT, "j.yaml"]),
        (["run", "--dashboard", "--plain"], ["run", "--dashboard", DEFAULT, "--plain"]),
        (["run", "--dashboard", "0.0.0.0:1"], ["run", "--dashboard", "0.0.0.0:1"]),
        (["run", "--dashboard=[::1]:1"], ["run", "--dashboard=[::1]:1"]),
        (["run", "j.yaml"], ["run", "j.yaml"]),
    ],
)
def test_a_bare_flag_has_a_default(given: list[str], expected: list[str]) -> None:
    assert with_default(given) == expected


def test_addresses() -> None:
    assert parse_address("[::1]:80") == ("::1", 80)
    for wrong in ("8080", "host:", ":80", "host:65536", "a b:1"):
        with pytest.raises(ValueError, match="--dashboard"):
            parse_address(wrong)


async def test_a_busy_port_names_the_flag() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        with pytest.raises(DashboardError, match=r"^--dashboard 127\.0\.0\.1:"):
            async with shown(held.getsockname(), print):
                pass
