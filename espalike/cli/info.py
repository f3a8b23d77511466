"""`espalike info`: what a model file or a store holds."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HELP = """What a model file or a store holds: configuration, units, provenance, split, hashes.

example:
  espalike info sample
  espalike info sample --json

A store also keeps what was left out of it, and why:
  espalike info store/td --rejected           all of it
  espalike info store/td --rejected mol-17    one entry"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("file", metavar="FILE", help="model file, name of a shipped model, store, or `sample`")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.add_argument(
        "--rejected", metavar="ID", nargs="?", const="", help="what was left out of a store: all of it, or of entry ID"
    )


def run(args: argparse.Namespace) -> int:
    """Print what the file holds.

    Raises:
        ValueError: when it is neither a model file nor a store.
        FileNotFoundError: when there is no such thing.
    """
    is_store = _is_store(args.file)
    if args.rejected is not None:
        if not is_store:
            raise ValueError(f"{args.file} is a model; --rejected is about stores")
        return _rejected(args.file, args.rejected, args.json)
    content = of_store(args.file) if is_store else of_model(args.file)
    if args.json:
        print(json.dumps(content, indent=1, ensure_ascii=False))
    elif is_store:
        _print_store(content)
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
    """A store's manifest, with `kind` and `path` in front, and what its columns say.

    Raises:
        StoreError: when it is no store, or damaged.
    """
    from espalike.data.describe import describe
    from espalike.data.store import Store

    store = Store.open(name)
    return {"kind": "store", "path": str(store.path), **store.manifest, **store.counts, **describe(store)}


def _rejected(name: str, entry: str, as_json: bool) -> int:
    """Print what was left out of a store, all of it or of one entry; 1 where nothing was left out of that entry."""
    from espalike.data.describe import as_json as to_json
    from espalike.data.describe import rejections
    from espalike.data.store import Store

    store = Store.open(name)
    found = list(rejections(store, entry or None))
    if as_json:
        print(to_json(found))
    for line in () if as_json else found:
        print(f"{line.id}: {line.reason}\n    {line.message}")
    if found or not entry:
        if not found and not as_json:
            kept = "nothing was left out" if not store.manifest["rejected"] else "this store keeps counts only"
            print(f"{store.path}: {kept}")
        return 0
    stored = entry in set(store.column("id"))
    print(
        f"{entry}: {'stored as a whole' if stored else 'neither stored nor left out'} in {store.path}", file=sys.stderr
    )
    return 0 if stored else 1


def _print_store(content: dict[str, Any]) -> None:
    """Tables of what a store holds, what was left out, and where it comes from."""
    tables = ("splits", "sources", "units", "rejected", "audits", "spread", "complexes", "columns")
    plain = {key: value for key, value in content.items() if key not in (*tables, "filters", "settings", "ingest")}
    data = plain.pop("data")
    plain["data"] = data if isinstance(data, str) else f"{data[0]} and {len(data) - 1} more"
    plain["atoms"] = "{min} to {max} a molecule, median {median:g}".format(**content["atoms"])
    print("\n".join(_lines(plain)))
    counts = ("molecules", "connectivities", "entries", "conformers")
    _table("splits", ("split", *counts), [(split, *(n[c] for c in counts)) for split, n in content["splits"].items()])
    spread, sources = content["spread"], content["sources"]
    _table(
        "sources",
        ("source", "entries", "conformers", "level", "energy std", "force RMS"),
        [
            (name, n["entries"], n["conformers"], ", ".join(n["levels"]), *spread.get(name, {}).values())
            for name, n in sources.items()
        ],
        "energies about their entry's mean, kcal/mol; force components, kcal/mol/Å",
    )
    if content["complexes"]:
        kinds = [(group, *row.values()) for group, row in content["complexes"].items()]
        _table("complexes", ("group", "complexes", "points", "lowest"), kinds, "interaction energies, kcal/mol")
    known = {"entries": content["entries"], **content["columns"]}
    _table("columns", ("column", "entries", "unit"), [(c, n, content["units"].get(c, "")) for c, n in known.items()])
    print("\n".join(_lines({"units": content["units"]})))
    if content["rejected"]:
        _table("left out", ("reason", "count"), list(content["rejected"].items()))
        if "rejections" in content:
            print(f"espalike info {content['path']} --rejected [ID] says more")
    for verdict in content.get("audits", ()):
        print("audit of {audit}, {where}: {outcome}: {message}".format(**verdict))


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence], caption: str = "") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, caption=caption or None, title_justify="left", caption_justify="left")
    for i, column in enumerate(columns):
        numbers = all(isinstance(row[i], int | float | None) for row in rows)
        table.add_column(column, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row))
    Console(markup=False, highlight=False).print(table)


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
