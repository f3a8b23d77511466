"""Audit of energies that are rounded: to few decimals, or as totals in single precision.

Where an entry's energies are rounded, their differences are whole multiples of one step. Energies that are not do not
have such a step: four of them have one above a part in 10⁵ of their smallest difference by chance once in 10⁸ entries.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

COARSE, TOO_COARSE = 0.05, 0.2
"""Steps of energies [kcal/mol] that are worth a warning, and that are a fault: single precision resolves 0.04 at 1000
hartree and 0.15 at 3000; a hundredth of an eV and a kJ/mol are 0.23."""
_ENERGIES, _MOST = 4, 1000
"""Smallest number of different energies of an entry that tells a step, and number of entries that are enough."""
_PARTS = 8
"""Largest number of steps of the smallest difference."""
_WHOLE = 1e-5
"""Largest deviation of a multiple from a whole number."""


def add(steps: list[float], energy: np.ndarray) -> None:
    """Add the step of an entry's energies [kcal/mol], 0 where they have none, to a list of at most `_MOST`.

    Args:
        steps: the list; left as it is where there are too few energies to tell a step.
        energy: energies [kcal/mol], shape `(K,)`.
    """
    levels = np.unique(energy)
    if len(levels) >= _ENERGIES and len(steps) < _MOST:
        steps.append(_step(levels))


def _step(levels: np.ndarray) -> float:
    """The largest step of different energies in ascending order; 0 where they have none above `COARSE`."""
    smallest = float(np.diff(levels).min())
    for size in (smallest / part for part in range(1, _PARTS + 1)):
        if size < COARSE:
            break
        multiples = (levels - levels[0]) / size
        if np.abs(multiples - multiples.round()).max() <= _WHOLE:
            return size
    return 0.0


def judge(steps: Sequence[float]) -> tuple[str, str] | None:
    """Outcome and message; None where energies are fine enough, or no entry tells.

    Args:
        steps: the step of each entry [kcal/mol].
    """
    coarse = [size for size in steps if size]
    if 2 * len(coarse) <= len(steps):
        return None
    middle = float(np.median(coarse))
    text = (
        f"energies of {len(coarse)} of {len(steps)} entries are rounded to steps of {middle:.2g} kcal/mol: few "
        "decimals, or totals in single precision. Store them in double precision, or relative to each molecule's mean"
    )
    return ("failed" if middle >= TOO_COARSE else "warning"), text
