"""What readers ask of arrays."""

from __future__ import annotations

import numpy as np

from espalike.data.schema import RecordError


def finite(name: str, what: str, values: np.ndarray) -> np.ndarray:
    """The values, all of which are numbers. The checks of a record take energies that are all NaN for a level without.

    Raises:
        RecordError: when one is NaN or infinite.
    """
    if not np.isfinite(values).all():
        raise RecordError(f"{what} not finite", f"{name}: {what} hold NaN or infinite values")
    return values
