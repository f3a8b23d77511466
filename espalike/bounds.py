"""Checks of settings that are numbers, for the constructors that take them."""

from __future__ import annotations

from typing import Any


def check_number(name: str, value: Any, least: float) -> None:
    """Check that a setting is a number and not too small; None passes, since it stands for a default.

    Args:
        name: the setting as users type it, `data.batch_size`.
        value: its value.
        least: smallest value that it may have.

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
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= least:
        raise ValueError(f"{name}={value}: expected a number, {least} or more")
