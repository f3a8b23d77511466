"""Objects from plain configuration dicts, and nothing but models: a stranger's configuration must not run code.

A dict with `_target_` names a class (or the DGL adapter) by its defining module; with `_partial_: true` it waits for
more arguments. Only subclasses of `Term` and `torch.nn.Module` defined under `espalike.`, `torch.nn.`, `dgl.nn.`
or in an installed plug-in (entry-point group `espalike.plugins`) are built.
"""

from __future__ import annotations

import importlib
import inspect
from functools import partial
from importlib.metadata import entry_points
from typing import Any

from torch import nn

from espalike.terms.base import Term

_ROOTS = ("espalike", "torch.nn", "dgl.nn")
_FUNCTIONS = ("espalike.nn.dgl.convolution",)


class UntrustedTarget(ValueError):
    """A configuration asks for something that a model may not be made of."""


def _roots() -> tuple[str, ...]:
    return _ROOTS + tuple(point.value.split(":")[0] for point in entry_points(group="espalike.plugins"))


def resolve(target: str) -> Any:
    """The class or function called `target`.

    Raises:
        UntrustedTarget: when it is not a model part, or not there.
    """
    module_name, _, name = target.rpartition(".")
    if not any(module_name == root or module_name.startswith(root + ".") for root in _roots()):
        raise UntrustedTarget(f"refusing to build {target!r}: a model is made of {', '.join(_roots())} only")
    try:
        found = getattr(importlib.import_module(module_name), name, None)
    except ImportError as error:
        raise UntrustedTarget(f"cannot build {target!r}: {error}") from error
    is_part = inspect.isclass(found) and issubclass(found, (Term, nn.Module))
    defined_here = getattr(found, "__module__", "").startswith(_roots())
    if target in _FUNCTIONS or (is_part and defined_here):
        return found
    raise UntrustedTarget(f"refusing to build {target!r}: it is not a term or network class of its module")


def build(config: Any) -> Any:
    """Whatever a plain configuration describes: dicts with `_target_` become objects, the rest stays as it is.

    Raises:
        UntrustedTarget: see `resolve`.
        ValueError: when arguments do not fit, naming the target.
    """
    if isinstance(config, list):
        return [build(item) for item in config]
    if not isinstance(config, dict):
        return config
    arguments = {key: build(value) for key, value in config.items() if key not in {"_target_", "_partial_"}}
    if "_target_" not in config:
        return arguments
    target = resolve(config["_target_"])
    if config.get("_partial_", False):
        return partial(target, **arguments)
    try:
        return target(**arguments)
    except TypeError as error:
        raise ValueError(f"cannot build {config['_target_']}: {error}") from error
