"""Checks of what constructors are given: settings that are numbers, and classes that other functions make."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


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


def made_by(advice: str) -> Callable[[type[T]], type[T]]:
    """A decorator of a class that users do not make by calling it: the error of a wrong call says what makes one.

    Args:
        advice: what to call instead.
    """

    def decorate(cls: type[T]) -> type[T]:
        init = cls.__init__

        @functools.wraps(init)
        def checked(self: T, *args: Any, **kwargs: Any) -> None:
            try:
                init(self, *args, **kwargs)
            except TypeError as error:
                raise TypeError(f"{error}; {advice}") from None

        cls.__init__ = checked  # type: ignore[assignment]
        return cls

    return decorate
