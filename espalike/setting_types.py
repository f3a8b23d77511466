"""Types of the settings of a job: those of their defaults, and those that classes declare."""

from __future__ import annotations

import importlib
import types
import typing
from collections import abc
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def check_like(key: str, node: Any, default: Any) -> None:
    """Check that settings are numbers, truth values, lists and mappings where their defaults are."""
    if isinstance(default, Mapping) and isinstance(node, Mapping) and "_target_" not in default:
        for name in default.keys() & node.keys():
            check_like(f"{key}.{name}".lstrip("."), node[name], default[name])
        return
    if node is None or default is None or (isinstance(node, str) and ("${" in node or node == "???")):
        return
    for kinds, expected in (
        (bool, "true or false"),
        ((int, float), "a number"),
        (list, "a list"),
        (Mapping, "a mapping"),
    ):
        if isinstance(default, kinds):
            other = kinds is list and isinstance(node, str | Mapping)  # a list of one
            other |= kinds is bool and isinstance(node, str)  # resume=auto
            odd = isinstance(node, bool) and kinds is not bool
            if odd or not (other or isinstance(node, kinds)):
                raise ValueError(f"{key}={node}: expected {expected}")
            return


def check_types(key: str, node: Any) -> None:
    """Check the settings of every `_target_` below a node against the types that the class declares."""
    if isinstance(node, Mapping):
        hints = _hints(str(node["_target_"])) if "_target_" in node else {}
        for name, value in node.items():
            allowed = _accepted(hints.get(name, Any))
            unresolved = value is None or (isinstance(value, str) and (value == "???" or "${" in value))
            odd = isinstance(value, bool | str) and type(value) not in (allowed or ())  # a kind of number, of list
            if allowed and not unresolved and (odd or not isinstance(value, allowed)):
                kinds = " or ".join(sorted({_KINDS.get(kind, kind.__name__) for kind in allowed} - {"null"}))
                raise ValueError(
                    f"{key}{name}={value}: expected {kinds}; a text that looks like a number is quoted twice"
                )
            check_types(f"{key}{name}.", value)


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
    parts = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    kinds = [typing.get_origin(part) or part for part in parts]
    if any(kind not in _KINDS and kind is not Path for kind in kinds):
        return None
    listed = {kind: (kind, *more) for kind, more in ((float, (int,)), (Path, (str,)), (tuple, (list,)))}
    return tuple(dict.fromkeys(each for kind in kinds for each in listed.get(kind, (kind,)) if each is not Path))
