"""Checks of settings that are numbers, for the constructors that take them."""

from __future__ import annotations

import math
from typing import Any


def check_number(name: str, value: Any, least: float, most: float = math.inf) -> None:
    """Check that a setting is a finite number within bounds; None passes, since it stands for a default.

    Args:
        name: the setting as users type it, `data.batch_size`.
        value: its value.
        least: smallest value that it may have.
        most: largest one.

    Raises:
        ValueError: naming the setting, what was expected and what was given.

    Examples:
        >>> check_number("data.batch_size", 16, 1)
        >>> check_number("data.batch_size", 0, 1)
        Traceback (most recent call last):
        ValueError: data.batch_size=0: expected a number, 1 or more
    """
    if value is None:
        return
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or not least <= value <= most:
        bounds = f"{least} or more" if most == math.inf else f"{least} to {most}"
        raise ValueError(f"{name}={value}: expected a number, {bounds}")
