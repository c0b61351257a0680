"""What is known of a round's MDCs and homes: kept as it came, and put together when somebody asks.

Statistics are for people; the next round must not wait for them.
"""

from __future__ import annotations

from elf_worker.statistics import MdcObservation, Product
from elf_worker.statistics.product import State


class Observations:
    """Of one round."""

    def __init__(self, product: Product) -> None:
        self._product = product
        self._seen: list[tuple[MdcObservation | None, int, bytes]] = []

    def note(self, mdc: int, wire: bytes, seen: MdcObservation | None) -> None:
        """One Submit of an MDC: the statistics of its homes, and its own unless all of these failed."""
        self._seen.append((seen, mdc, wire))

    def together(self) -> State:
        """Of all homes and MDCs."""
        out: State = {}
        for seen, _, wire in self._seen:
            self._add(out, seen, wire)
        return out

    def by_mdc(self) -> dict[int, State]:
        """Of each MDC and its homes. Shares nothing with `together`."""
        out: dict[int, State] = {}
        for seen, mdc, wire in self._seen:
            self._add(out.setdefault(mdc, {}), seen, wire)
        return out

    def _add(self, state: State, seen: MdcObservation | None, wire: bytes) -> None:
        self._product.combine(state, self._product.from_wire(wire))
        if seen is not None:
            self._product.combine(state, self._product.of_mdc(seen))
