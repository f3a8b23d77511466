"""Types of the settings of a job: those of their defaults, and those that classes declare."""

from __future__ import annotations

import importlib
import math
import types
import typing
from collections import abc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TEXTS = str | abc.Sequence[str] | None
DECLARED: Mapping[str, Any] = {
    **dict.fromkeys(("input", "models", "split", "exclude", "exclude_split", "before", "against", "methods"), TEXTS),
    **dict.fromkeys(("freeze", "data.path", "data.stores", "data.split"), TEXTS),
    **dict.fromkeys(
        ("level", "labels", "splits", "origin", "licence", "source", "start", "cache", "metric"), str | None
    ),
    **dict.fromkeys(("force_field", "data.level", "data.labels_dir"), str | None),
    "baselines": str | Mapping[str, Any] | abc.Sequence[str | Mapping[str, Any]] | None,
    "water": abc.Sequence[int] | None,
    **dict.fromkeys(("disagreement", "ema"), float | None),
}
"""Types of the jobs' own settings that their defaults do not show, by name; a setting has one meaning in all jobs."""
LEAST = {
    **dict.fromkeys(("seed", "worst", "recombine", "geometries", "esp", "resamples"), 0),
    **dict.fromkeys(("limit", "stop", "most", "chunk", "needed", "workers", "ensemble", "member", "save_every"), 1),
    **dict.fromkeys(("rounds", "patience", "threads", "conformers", "data.conformers"), 1),
}
"""Smallest values of whole numbers among them."""
_OR_NULL = {"threads", "data.conformers"}
"""Numbers that may be null although their default is a number."""


def check_declared(settings: Mapping[Any, Any]) -> None:
    """Check a job's own settings against `DECLARED` and `LEAST`.

    Raises:
        ValueError: naming the first one that does not fit, what was expected, and what came.
    """
    inner = settings.get("data")
    named = {
        **settings,
        **{f"data.{key}": value for key, value in (inner if isinstance(inner, Mapping) else {}).items()},
    }
    for key, value in named.items():
        if key in LEAST:
            check(key, value, int | None)
            if isinstance(value, int) and value < LEAST[key]:
                raise ValueError(f"{key}={value}: expected a number, {LEAST[key]} or more")
        elif key in DECLARED:
            check(key, value, DECLARED[key])


def check_like(key: str, node: Any, default: Any) -> None:
    """Check that settings are numbers, truth values, lists and mappings where their defaults are."""
    if isinstance(default, Mapping) and isinstance(node, Mapping) and "_target_" not in default:
        for name in default.keys() & node.keys():
            check_like(f"{key}.{name}".lstrip("."), node[name], default[name])
        return
    if default is None or (isinstance(node, str) and ("${" in node or node == "???")):
        return
    if node is None and (not isinstance(default, int | float | Mapping) or key in _OR_NULL | DECLARED.keys()):
        return  # for these, null stands for something
    for kinds, expected in (
        (bool, "true or false"),
        ((int, float), "a number"),
        (list, "a list"),
        (Mapping, "a mapping"),
    ):
        if isinstance(default, kinds):
            other = kinds is list and isinstance(node, str | Mapping)  # a list of one
            other |= key == "resume" and isinstance(node, str)  # auto; the run refuses other words
            odd = isinstance(node, bool) and kinds is not bool
            if odd or not (other or isinstance(node, kinds)):
                raise ValueError(f"{key}={'null' if node is None else node}: expected {expected}")
            return


def check_types(key: str, node: Any) -> None:
    """Check the settings of every `_target_` below a node against the types that the class declares."""
    if isinstance(node, Mapping):
        hints = _hints(str(node["_target_"])) if "_target_" in node else {}
        for name, value in node.items():
            check(f"{key}{name}", value, hints.get(name, Any))
            check_types(f"{key}{name}.", value)


def check(key: str, value: Any, hint: Any) -> None:
    """Check one setting, and the elements of a list, against a type.

    Raises:
        ValueError: naming the setting, what was expected, and what came.
    """
    if isinstance(value, float) and math.isnan(value):
        raise ValueError(f"{key}={value}: expected a number")
    allowed = _accepted(hint)
    unresolved = value is None or (isinstance(value, str) and (value == "???" or "${" in value))
    odd = isinstance(value, bool | str) and type(value) not in (allowed or ())  # a kind of number, of list
    if allowed and not unresolved and (odd or not isinstance(value, allowed)):
        kinds = " or ".join(sorted({_KINDS.get(kind, kind.__name__) for kind in allowed} - {"null"}))
        quoted = "; a text that looks like a number is quoted twice" if str in allowed else ""
        raise ValueError(f"{key}={value}: expected {kinds}{quoted}")
    if isinstance(value, list):
        for number, element in enumerate(value):
            check(f"{key}[{number}]", element, _of_elements(hint))


def _of_elements(hint: Any) -> Any:
    """The type of the elements of a list; Any where the hint does not say it, or there may be lists of two types."""
    lists = [typing.get_args(part) for part in _parts(hint) if typing.get_origin(part) in (list, tuple, abc.Sequence)]
    distinct = {part for parts in lists for part in parts if part is not ...}
    return distinct.pop() if len(distinct) == 1 else Any


def _parts(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


_KINDS = {
    str: "text", int: "a whole number", float: "a number", bool: "true or false", types.NoneType: "null",
    abc.Mapping: "a mapping", abc.Sequence: "a list", list: "a list", dict: "a mapping", tuple: "a list",
}  # fmt: skip


def _hints(target: str) -> dict[str, Any]:
    """Types of the arguments of a class or function; none where it cannot be imported or says none."""
    module, _, name = target.rpartition(".")
    try:
        made = getattr(importlib.import_module(module), name)
        return typing.get_type_hints(made.__init__ if isinstance(made, type) else made)  # type: ignore[misc]
    except Exception:  # what is wrong with the class is reported where it is made
        return {}


def _accepted(hint: Any) -> tuple[type, ...] | None:
    """The types of a type hint whose values a setting can have; None for any."""
    kinds = [typing.get_origin(part) or part for part in _parts(hint)]
    if any(kind not in _KINDS and kind is not Path for kind in kinds):
        return None
    listed = {kind: (kind, *more) for kind, more in ((float, (int,)), (Path, (str,)), (tuple, (list,)))}
    return tuple(dict.fromkeys(each for kind in kinds for each in listed.get(kind, (kind,)) if each is not Path))
