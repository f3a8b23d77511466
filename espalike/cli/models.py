"""`espalike models`: the models at hand."""

from __future__ import annotations

import argparse
from typing import Any

HELP = """The models that come with the program: functional form, chemical domain, size, test figures.
Any other model file: espalike info FILE.

example:
  espalike models"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def run(args: argparse.Namespace) -> int:
    """Print a card for each shipped model."""
    import json

    from espalike.model import DEFAULT, shipped

    cards = {name: card(path) for name, path in shipped().items()}
    if args.json:
        print(json.dumps(cards, indent=1, ensure_ascii=False))
        return 0
    if not cards:
        print("no models come with this installation; train one with `espalike train`")
    for name, content in cards.items():
        print(f"{name}{' (default)' if name == DEFAULT else ''}")
        for key, value in content.items():
            print(f"  {key}: {shown(value)}")
    return 0


def card(path) -> dict[str, Any]:
    """What a model file says of itself, short: form, network, domain, size, data, figures.

    Raises:
        ModelFileError: when it is not a model file of this version.
    """
    from pathlib import Path

    from rdkit.Chem import GetPeriodicTable

    from espalike.model import describe

    header = describe(path)
    config, domain = header["config"], header["domain"]
    symbol = GetPeriodicTable().GetElementSymbol
    low, high = domain["charges"]
    conv, layers, width = _last(config.get("conv", "")), config.get("layers", "?"), config.get("width", "?")
    return {
        "form": [_last(term) for term in config.get("terms", [])],
        "network": f"{conv}, {layers} layers, width {width}",
        "parameters": count_parameters(path),
        "elements": [symbol(int(z)) for z in domain["elements"]],
        "environments": len(domain["environments"]),
        "net charge": f"{low:+d} to {high:+d}",
        "data": [store.get("name", "?") for store in header["data"]],
        "figures": header["figures"],
        "file": str(path),
        "bytes": Path(path).stat().st_size,
    }


def count_parameters(path) -> int:
    """Number of weights in a model file, from the shapes alone."""
    from math import prod

    from safetensors import safe_open

    with safe_open(str(path), framework="pt") as file:
        return sum(prod(file.get_slice(key).get_shape()) for key in file.keys())  # noqa: SIM118 - no mapping


def shown(value: Any) -> str:
    """A value of a card on one line."""
    if isinstance(value, dict):
        return "; ".join(f"{key} {shown(item)}" for key, item in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(shown(item) for item in value) or "none"
    if isinstance(value, float):
        return f"{value:.4g}"
    return "none" if value is None or value == "" else str(value)


def _last(node: Any) -> str:
    """The class name in a `_target_` of a configuration."""
    target = node.get("_target_", "?") if isinstance(node, dict) else str(node)
    return str(target).rsplit(".", 1)[-1]
