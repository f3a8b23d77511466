"""Methods to compare with, by the name that users type: any calculator, OpenFF's force fields, zero."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import yaml
from hydra.errors import InstantiationException
from hydra.utils import instantiate

from espalike.evaluation.predictors import ForceField, Predictor, from_calculator, zero
from espalike.extras import missing
from espalike.qm.base import Calculator, CalculatorError

Entry = str | Mapping[str, Any]
"""A baseline as users type it: `ani1x`, `openff-2.2.1`, or a mapping such as `{calculator: ani1x, weights: FOLDER}`."""

_NOT_OFFERED = {
    "so3lr": "its weights are a pickled Python object, which could run any code; espalike unpickles nothing"
}
"""Methods that people ask for, and why they are skipped."""


class NotInstalled(Exception):
    """A baseline whose program, package or weights are not installed; the message says what to install."""


def names() -> list[str]:
    """Names of all baselines but OpenFF's: `zero` and those of `configs/calculator`."""
    folder = files("espalike.configs") / "calculator"
    return ["zero", *sorted(path.name.removesuffix(".yaml") for path in folder.iterdir())]


def is_baseline(name: str) -> bool:
    """Whether a method's name is a baseline's; other names are those of models."""
    return name in names() or name in _NOT_OFFERED or name.startswith("openff") or name.endswith(".offxml")


def label_of(entry: Entry) -> str:
    """What the tables call a baseline: its `label`, or its name."""
    if isinstance(entry, str):
        return entry
    if "calculator" not in entry and "_target_" not in entry:
        raise ValueError(f"baseline {dict(entry)}: expected {{calculator: NAME, ...}}")
    return str(entry.get("label") or entry.get("calculator") or entry["_target_"].rpartition(".")[2])


def baseline(entry: Entry) -> Predictor:
    """The predictor of a baseline.

    Args:
        entry: a name; or a mapping with `calculator` (a name) or `_target_` (a class), settings of the calculator that
            differ from the defaults, and optionally a `label` for the tables.

    Raises:
        NotInstalled: when a package, a program or (for a name alone) the weights of a network are missing.
        ValueError: for an unknown name, or a setting that the calculator does not have.
        FileNotFoundError: for a file among the settings that does not exist.
    """
    settings = {"calculator": entry} if isinstance(entry, str) else dict(entry)
    name, label = settings.pop("calculator", None), label_of(entry)
    settings.pop("label", None)
    if name in _NOT_OFFERED:
        raise NotInstalled(f"{label}: {_NOT_OFFERED[name]}")
    try:
        if name is not None and (name.startswith("openff") or name.endswith(".offxml")):
            return _openff(name, settings)
        return zero if name == "zero" else from_calculator(calculator(name, settings))
    except ImportError as error:
        raise NotInstalled(f"{label}: {missing(error)}") from error
    except FileNotFoundError as error:
        if settings:
            raise
        raise NotInstalled(f"{label}: {error}") from error


def _openff(name: str, settings: Mapping[str, Any]) -> Predictor:
    from espalike.assigners.openff import OpenFFAssigner, installed_file

    return ForceField(OpenFFAssigner(installed_file(name), **settings))


def calculator(name: str | None, settings: Mapping[str, Any]) -> Calculator:
    """A calculator of the program, or one whose settings name its class.

    Args:
        name: of a file in `configs/calculator`, or None.
        settings: those that differ from the file's; `_target_` where there is no name.

    Raises:
        NotInstalled, ValueError, FileNotFoundError, ImportError: see `baseline`.
    """
    settings = settings if name is None else _with_defaults(name, settings)
    try:
        made: Calculator = instantiate(settings, _convert_="all")
    except InstantiationException as error:
        raise error.__cause__ or error from None
    try:
        str(made.program)  # a program of its own is looked for here, before any molecule
    except (CalculatorError, ValueError) as error:
        raise NotInstalled(f"{name}: {error}") from error
    return made


def _with_defaults(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of `configs/calculator/NAME.yaml`, changed by those that are given."""
    if name not in names():
        close = difflib.get_close_matches(name, names(), n=1)
        guess = f"did you mean {close[0]!r}? " if close else ""
        raise ValueError(f"no baseline {name!r}; {guess}baselines: openff-VERSION, {', '.join(names())}")
    path = files("espalike.configs") / "calculator" / f"{name}.yaml"
    defaults = yaml.safe_load(path.read_text(encoding="utf-8"))
    if unknown := sorted(settings.keys() - defaults.keys()):
        options = ", ".join(key for key in defaults if key != "_target_")
        raise ValueError(f"baseline {name}: no setting {', '.join(unknown)}; settings: {options}")
    chosen = {**defaults, **settings}
    if lacking := [key for key, value in chosen.items() if value == "???"]:
        example = ", ".join(f"{key}: ..." for key in lacking)
        raise ValueError(f"baseline {name} needs {', '.join(lacking)}: baselines=[{{calculator: {name}, {example}}}]")
    return chosen
