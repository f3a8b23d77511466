"""Builds objects from plain configuration dicts, and only parts of models: a configuration must not run other code.

A dict with `_target_` names a class (or the DGL adapter) by its defining module; with `_partial_: true` the result is a
function of the missing arguments. Only subclasses of `Term` and `torch.nn.Module` are built, defined in espalike,
`torch.nn`, `dgl.nn` or an installed plug-in (a package with an entry point in the group `espalike.plugins`).
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import entry_points
from threading import get_ident
from typing import Any

from torch import nn
from torch.nn.modules.module import (
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)

from espalike.terms.base import Term

_ROOTS = ("espalike", "torch.nn", "dgl.nn")
_FUNCTIONS = ("espalike.nn.dgl.convolution",)
_GROUP = "espalike.plugins"


class UntrustedTarget(ValueError):
    """A configuration names something that is not a part of a model, or a package that is not a plug-in."""


def _roots() -> tuple[str, ...]:
    return _ROOTS + tuple(point.value.split(":")[0] for point in entry_points(group=_GROUP))


def _is_inside(module: str, roots: tuple[str, ...]) -> bool:
    return any(module == root or module.startswith(f"{root}.") for root in roots)


def _refusal(target: str, roots: tuple[str, ...]) -> str:
    """Why a target outside the known packages is not built, and how its package becomes a plug-in."""
    reason = f"refusing to build {target!r}: only terms and networks of {', '.join(roots)} are built"
    package, dot, _ = target.partition(".")
    if not dot or package in sys.stdlib_module_names:
        return reason
    return (
        f"{reason}. If you trust the package {package}, make it a plug-in: add to its pyproject.toml\n\n"
        f'    [project.entry-points."{_GROUP}"]\n    {package} = "{package}"\n\n'
        "and install it again (pip install ./FOLDER)"
    )


def resolve(target: str, roots: tuple[str, ...] | None = None) -> Any:
    """The class or function called `target`.

    Args:
        target: its name, with its module.
        roots: packages that it may come from; None: they are looked up, which takes a while.

    Raises:
        UntrustedTarget: when it is not a part of a model, does not exist, or its package is not a plug-in.
    """
    module_name, _, name = target.rpartition(".")
    roots = _roots() if roots is None else roots
    if not _is_inside(module_name, roots):
        raise UntrustedTarget(_refusal(target, roots))
    try:
        part = getattr(importlib.import_module(module_name), name, None)
    except ImportError as error:
        raise UntrustedTarget(f"cannot build {target!r}: {error}") from error
    is_part = inspect.isclass(part) and issubclass(part, (Term, nn.Module))
    if target in _FUNCTIONS or (is_part and _is_inside(part.__module__, roots)):
        return part
    raise UntrustedTarget(f"refusing to build {target!r}: it is not a term or network class of its module")


def build(config: Any, roots: tuple[str, ...] | None = None) -> Any:
    """The objects of a plain configuration: dicts with `_target_` become objects, the rest stays as it is.

    Args:
        config: the configuration.
        roots: packages that parts may come from; None: espalike's, and those of plug-ins.

    Raises:
        UntrustedTarget: see `resolve`.
        ValueError: when arguments do not fit, naming the target.
    """
    roots = _roots() if roots is None else roots
    if isinstance(config, list):
        return [build(item, roots) for item in config]
    if not isinstance(config, dict):
        return config
    arguments = {key: build(value, roots) for key, value in config.items() if key not in {"_target_", "_partial_"}}
    if "_target_" not in config:
        return arguments
    target = resolve(str(config["_target_"]), roots)
    if config.get("_partial_", False):
        return partial(target, **arguments)
    try:
        return target(**arguments)
    except TypeError as error:
        raise ValueError(f"cannot build {config['_target_']}: {error}") from error


@contextmanager
def bounded(most_layers: int, most_weights: int) -> Iterator[None]:
    """Building of networks inside stops before weights are drawn for more than a file can have.

    Networks that other threads build in the meantime are not counted.

    Raises:
        ValueError: when there are more layers or more weights.
    """
    layers = weights = 0
    thread = get_ident()

    def add_layer(module: nn.Module, name: str, layer: nn.Module | None) -> None:
        nonlocal layers
        layers += get_ident() == thread
        if layers > most_layers:
            raise ValueError(f"more than {most_layers} layers")

    def add_weights(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal weights
        weights += parameter.numel() if parameter is not None and get_ident() == thread else 0
        if weights > most_weights:
            raise ValueError(f"more than {most_weights} weights")

    hooks = (
        register_module_module_registration_hook(add_layer),
        register_module_parameter_registration_hook(add_weights),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
