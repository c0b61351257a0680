"""The toy training that the simulated homes and NPDC do, and its results computed without the protocol.

Sums here are Python integers in units of 2^-75, so nothing is shared with `ExactSum` but its promise.
"""

from __future__ import annotations

import hashlib
import struct

import numpy as np

SIZE = 3
"""Parameters. A home's vector has one element more, the loss."""
UNIT_BITS = 75
START = struct.pack(f"<{SIZE}f", 0.0, 1.0, -3.0)
RATE = np.float32(0.1)

Units = tuple[int, ...]


def weight_of(home: int) -> int:
    """Examples of a home. Powers of three: a sum of weights says who is in it, and how often."""
    return 3**home


def units_of(payload: bytes) -> Units:
    """A float32 vector in units of 2^-75."""
    return tuple(round(x * 2.0**UNIT_BITS) for x in struct.unpack(f"<{SIZE + 1}f", payload))


def limbs_of(units: Units) -> bytes:
    """What `ExactSum.to_bytes` promises for a sum: a high limb in units of 2^-30, a low one within ±2^44."""
    low = [(u + (1 << 44)) % (1 << 45) - (1 << 44) for u in units]
    high = [(u - part) >> 45 for u, part in zip(units, low, strict=True)]
    return struct.pack(f"<{2 * len(units)}q", *high, *low)


def step(weights: bytes, mean: np.ndarray) -> bytes:
    """One step of plain gradient descent in float32."""
    return (np.frombuffer(weights, "<f4") - RATE * mean[:SIZE]).astype("<f4").tobytes()


class Model:
    """Gradients as a pure function of (seed, home, round, weights), with a memory of those computed."""

    def __init__(self, seed: int, homes: int, groups: list[list[int]], method: str) -> None:
        self.seed = seed
        self.homes = homes
        self._groups = groups
        self._method = method
        self._known: dict[tuple[int, int, bytes], tuple[bytes, Units]] = {}

    def vector(self, home: int, round_: int, weights: bytes) -> bytes:
        """A home's gradient and loss."""
        return self._entry(home, round_, weights)[0]

    def total(self, members: list[int], round_: int, weights: bytes) -> Units:
        """The exact sum over some homes, or over what a robust method makes of their groups."""
        if not self._groups:
            vectors = [self._entry(home, round_, weights)[1] for home in members]
        else:
            here = [[home for home in group if home in members] for group in self._groups]
            vectors = [self._combined(group, round_, weights) for group in here if group]
        return tuple(map(sum, zip(*vectors, strict=True)))

    def _combined(self, group: list[int], round_: int, weights: bytes) -> Units:
        """A median, or a mean without the lowest and highest value (a fifth of fewer than ten is one)."""
        count = len(group)
        cut = (count - 1) // 2 if self._method == "median" else 1
        rows = [np.frombuffer(self.vector(home, round_, weights), "<f4") for home in group]
        out = []
        for element in range(SIZE + 1):
            values = [row[element] / np.float32(weight_of(h)) for h, row in zip(group, rows, strict=True)]
            middle = sum(float(x) for x in sorted(values)[cut : count - cut])
            share = sum(map(weight_of, group)) / (count - 2 * cut)
            out.append(np.float32(middle * share))
        return units_of(struct.pack(f"<{SIZE + 1}f", *out))

    def stepped(self, members: list[int], round_: int, weights: bytes) -> bytes:
        """The weights after a round in which exactly these homes were counted."""
        count = sum(map(weight_of, members))
        total = self.total(members, round_, weights)
        mean = np.array([u * 2.0**-UNIT_BITS / count for u in total]).astype(np.float32)
        return step(weights, mean)

    def undisturbed(self, rounds: int) -> list[bytes]:
        """The weights after 0, 1, … rounds in which every home was counted."""
        out = [START]
        for round_ in range(rounds):
            out.append(self.stepped(list(range(self.homes)), round_, out[-1]))
        return out

    def _entry(self, home: int, round_: int, weights: bytes) -> tuple[bytes, Units]:
        key = (home, round_, weights)
        found = self._known.get(key)
        if found is None:
            payload = self._draw(home, round_, weights)
            found = self._known[key] = (payload, units_of(payload))
        return found

    def _draw(self, home: int, round_: int, weights: bytes) -> bytes:
        """Values from 1e-12 to 1e3.

        In the first element homes 0 and 1 cancel and the others are tiny, so a sum that rounds on the way
        ends in other bits for another order, and the weight, near zero, keeps them.
        """
        shared = hashlib.blake2b(struct.pack("<qq", self.seed, round_) + weights, digest_size=8).digest()
        own = hashlib.blake2b(shared + struct.pack("<q", home), digest_size=6 * (SIZE + 1)).digest()
        values = []
        for mantissa, exponent in struct.iter_unpack("<iH", own):
            values.append(mantissa * 2.0**-31 * 10.0 ** (exponent % 16 - 12))
        big = 1000.0 * (0.5 + shared[0] / 512)
        first = mantissa_of(own) * 1e-12
        values[0] = big if home == 0 else -big if home == 1 else first
        return struct.pack(f"<{SIZE + 1}f", *values)


def mantissa_of(own: bytes) -> float:
    """A number between 1 and 2 out of hashed bytes."""
    return 1.0 + int.from_bytes(own[:3], "little") * 2.0**-24
