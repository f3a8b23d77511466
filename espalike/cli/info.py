"""`espalike info`: what a model file or a store holds."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

HELP = """What a model file or a store holds: configuration, units, provenance, split, hashes.

example:
  espalike info sample
  espalike info sample --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("file", metavar="FILE", help="model file, name of a shipped model, store, or `sample`")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def run(args: argparse.Namespace) -> int:
    """Print what the file holds.

    Raises:
        ValueError: when it is neither a model file nor a store.
        FileNotFoundError: when there is no such thing.
    """
    content = of_store(args.file) if _is_store(args.file) else of_model(args.file)
    if args.json:
        print(json.dumps(content, indent=1, ensure_ascii=False))
    else:
        print("\n".join(_lines(content)))
    return 0


def _is_store(name: str) -> bool:
    from espalike.data.store import SAMPLE
    from espalike.model import shipped

    path = Path(name)
    if path.suffix.lower() in (".h5", ".hdf5"):
        raise ValueError(f"{name} is HDF5, not a store; make a store of it: espalike ingest reader.path={name} out=DIR")
    if path.is_dir() or (name == SAMPLE and not path.exists()):
        return True
    if name in shipped() or path.exists():
        return False
    raise FileNotFoundError(f"no file, store or shipped model {name!r}; shipped: {', '.join(shipped()) or 'none'}")


def of_store(name: str) -> dict[str, Any]:
    """A store's manifest, with `kind` and `path` in front.

    Raises:
        StoreError: when it is no store, or damaged.
    """
    from espalike.data.store import Store

    store = Store.open(name)
    return {"kind": "store", "path": str(store.path), **store.manifest}


def of_model(name: str) -> dict[str, Any]:
    """What a model file says of itself, its split and atom environments as counts.

    Raises:
        ModelFileError: when it is no model file of this version.
    """
    from espalike.cli.models import count_parameters
    from espalike.model import describe, find

    path = find(name)
    header = describe(path)
    domain = {**header["domain"], "environments": len(header["domain"]["environments"])}
    split = {key: len(keys) for key, keys in header["split"].items()}
    counts = {"parameters": count_parameters(path), "features": len(header["features"]), "domain": domain}
    return {"kind": "model", "path": str(path), **header, **counts, "split": split, "sha256": _sha256(path)}


def _sha256(path: Path) -> str:
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _lines(content: Any, depth: int = 0) -> list[str]:
    """Nested content as indented text; lists of plain values stay on their line."""
    from espalike.cli.models import shown

    lines = []
    for key, value in content.items():
        lead = "  " * depth + str(key)
        if isinstance(value, dict) and value:
            lines += [f"{lead}:", *_lines(value, depth + 1)]
        elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
            lines += [f"{lead}:"]
            for i, item in enumerate(value):
                lines += _lines({i + 1: item}, depth + 1)
        else:
            lines.append(f"{lead}: {shown(value)}")
    return lines
