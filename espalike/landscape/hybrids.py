"""Methods between force fields and ML potentials: a force field as the inner force of a potential."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

INNER = 1.0
"""Inner time step [fs], that of dynamics on a potential alone."""
_NAME = re.compile(r"(?P<inner>.+)\+(?P<outer>[^+]+)@(?P<step>\d+)fs")


@dataclass(frozen=True)
class Hybrid:
    """Multiple time steps, see `espalike.hybrid.multiple_time_step`; their ensemble is that of the potential.

    Attributes:
        inner: the force field, which acts at each inner step.
        outer: the potential, which is computed once per outer step.
        substeps: inner steps of `INNER` per outer step.
    """

    inner: str
    outer: str
    substeps: int


def hybrid(method: str) -> Hybrid | None:
    """What a name like `espalike-2+aimnet2@4fs` means; None for other names.

    Examples:
        >>> hybrid("espalike-2+aimnet2@4fs")
        Hybrid(inner='espalike-2', outer='aimnet2', substeps=4)
        >>> hybrid("espalike-2")
    """
    found = _NAME.fullmatch(method)
    return Hybrid(found["inner"], found["outer"], max(1, round(int(found["step"]) / INNER))) if found else None


def hybrids(methods: Sequence[str]) -> dict[str, Hybrid]:
    """Those of the methods that are hybrids, by name.

    Raises:
        ValueError: where the potential of a hybrid, whose errors are the hybrid's, is not among the methods.
    """
    found = {name: made for name in methods if (made := hybrid(name)) is not None}
    for name, made in found.items():
        if made.outer not in methods:
            raise ValueError(f"methods: {name} has the errors of {made.outer}; add {made.outer} to the methods")
    return found
