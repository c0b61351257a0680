"""Addresses of local runs: no two runs of one machine share any."""

from __future__ import annotations

import pytest

from elf_cli.local.cluster import reserve

THREE = range(251, 254)
"""Not those that other tests run on meanwhile."""


def test_runs_at_once_have_addresses_of_their_own_until_they_are_over() -> None:
    for _ in range(2):
        held = [reserve(THREE) for _ in THREE]
        assert sorted(subnet for subnet, _ in held) == ["127.251", "127.252", "127.253"]
        with pytest.raises(OSError, match="3 other runs have all of this machine's loopback addresses"):
            reserve(THREE)
        for _, hold in held:
            hold.close()
