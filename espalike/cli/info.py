"""`espalike info`: what a model file or a store holds."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HELP = """What a model file or a store holds: contents, units, provenance, split, hashes; --json prints all of it, the
configuration of a model included.

examples:
  espalike info espalike-1
  espalike info sample --json
  espalike info sample --verify               compares every row with the store's hash
  espalike info sample --rejected             what was left out of a store, and why
  espalike info store/td --rejected mol-17    the same of one entry

exit status: 0 printed, 1 --rejected of an entry that the store has never seen, 2 no such file, or it is damaged"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("file", metavar="FILE", help="model file, name of a shipped model, store, or `sample`")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.add_argument("--verify", action="store_true", help="compare every row of a store with its hash and counts")
    parser.add_argument(
        "--rejected", metavar="ID", nargs="?", const="", help="what was left out of a store: all of it, or of entry ID"
    )


def run(args: argparse.Namespace) -> int:
    """Print what the file holds.

    Raises:
        ValueError: when it is neither a model file nor a store.
        FileNotFoundError: when no file, store or shipped model has this name.
    """
    from espalike.modelfile import ModelFileError

    is_store = _is_store(args.file)
    if args.rejected is not None:
        if not is_store:
            raise ValueError(f"{args.file} is a model; --rejected is about stores")
        return _rejected(args.file, args.rejected, args.json)
    if args.verify:
        if not is_store:
            raise ValueError(f"{args.file} is a model; --verify is about stores")
        return _verify(args.file)
    content = of_store(args.file) if is_store else of_model(args.file)
    if args.json:
        print(json.dumps(content, indent=1, ensure_ascii=False))
    elif is_store:
        _print_store(content)
    else:
        try:
            _print_model(content)
        except (AttributeError, IndexError, KeyError, TypeError) as error:  # a part is not a table, or not text
            raise ModelFileError(
                f"{args.file}: its model description is damaged ({type(error).__name__}: {error}); get the file again"
            ) from error
    return 0


def _is_store(name: str) -> bool:
    from espalike.data.store import embedded
    from espalike.model import shipped

    path = Path(name)
    if path.suffix.lower() in (".h5", ".hdf5"):
        raise ValueError(f"{name} is HDF5, not a store; make a store of it: espalike ingest reader.path={name} out=DIR")
    if os.path.isdir(path) or embedded(name):
        return True
    if name in shipped() or os.path.exists(path):
        return False
    raise FileNotFoundError(f"no file, store or shipped model {name!r}; shipped: {', '.join(shipped()) or 'none'}")


def of_store(name: str) -> dict[str, Any]:
    """A store's manifest, with `kind` and `path` in front, and what its columns say.

    Raises:
        StoreError: when it is not a store, or damaged.
    """
    from espalike.data.describe import describe
    from espalike.data.store import Store

    store = Store.open(name)
    return {"kind": "store", "path": str(store.path), **store.manifest, **store.counts, **describe(store)}


def _verify(name: str) -> int:
    """Compare the rows of a store with its hash and counts.

    Raises:
        StoreError: when they differ.
    """
    from espalike.data.store import Store

    store = Store.open(name)
    store.verify()
    print(f"{store.path}: all {len(store)} rows have the hash and counts that the manifest says, {store.hash[:12]}")
    return 0


def _rejected(name: str, entry: str, as_json: bool) -> int:
    """Print what was left out of a store, all of it or of one entry; 1 where nothing was left out of that entry."""
    from espalike.data.describe import as_json as to_json
    from espalike.data.describe import rejections
    from espalike.data.store import Store

    store = Store.open(name)
    lines = list(rejections(store, entry or None))
    if as_json:
        print(to_json(lines))
    for line in () if as_json else lines:
        print(f"{line.id}: {line.reason}\n    {line.message}")
    if lines or not entry:
        if not lines and not as_json:
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
    tables = ("splits", "sources", "units", "rejected", "audits", "spread", "kinds", "complexes", "columns")
    hidden = (*tables, "filters", "settings", "ingest", "checksums", "checksum")
    plain = {key: value for key, value in content.items() if key not in hidden}
    data = plain.pop("data")
    plain["data"] = data if isinstance(data, str) else f"{data[0]} and {len(data) - 1} more"
    plain["atoms"] = "{min} to {max} per molecule, median {median:g}".format(**content["atoms"])
    print("\n".join(_lines(plain)))
    counts = ("molecules", "connectivities", "entries", "conformers")
    print_table(
        "splits", ("split", *counts), [(split, *(n[c] for c in counts)) for split, n in content["splits"].items()]
    )
    spread, sources = content["spread"], content["sources"]
    print_table(
        "sources",
        ("source", "entries", "conformers", "level", "energy std", "force RMS"),
        [
            (name, n["entries"], n["conformers"], ", ".join(n["levels"]), *spread.get(name, {}).values())
            for name, n in sources.items()
        ],
        "energies about their entry's mean, kcal/mol; force components, kcal/mol/Å",
    )
    if content["kinds"]:
        print_table(
            "kinds", ("geometries", "entries", "conformers"), [(k, *n.values()) for k, n in content["kinds"].items()]
        )
    if content["complexes"]:
        kinds = [(group, *row.values()) for group, row in content["complexes"].items()]
        print_table("complexes", ("group", "complexes", "points", "lowest"), kinds, "interaction energies, kcal/mol")
    known = {"entries": content["entries"], **content["columns"]}
    print_table(
        "columns", ("column", "entries", "unit"), [(c, n, content["units"].get(c, "")) for c, n in known.items()]
    )
    print("\n".join(_lines({"units": content["units"]})))
    if content["rejected"]:
        print_table("left out", ("reason", "count"), list(content["rejected"].items()))
        if "rejections" in content:
            print(f"espalike info {content['path']} --rejected [ID] says more")
    for verdict in content.get("audits", ()):
        print("audit of {audit}, {where}: {outcome}: {message}".format(**verdict))


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence], caption: str = "") -> None:
    """Print a table; nothing where there are no rows."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    if not rows:
        return
    style: dict[str, Any] = {"box": SIMPLE_HEAD, "padding": 0, "pad_edge": False, "show_header": any(columns)}
    grid = Table(title=title, caption=caption or None, title_justify="left", caption_justify="left", **style)
    for i, column in enumerate(columns):
        numbers = all(isinstance(row[i], int | float | None) for row in rows)
        grid.add_column(column, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        grid.add_row(*("" if v is None else f"{v:.2f}" if isinstance(v, float) else str(v) for v in row))
    Console(markup=False, highlight=False, width=None if sys.stdout.isatty() else 120).print(grid)


def of_model(name: str | Path) -> dict[str, Any]:
    """What a model file says of itself; split and atom environments as counts, elements as symbols.

    Raises:
        ModelFileError: when it is not a model file of this version.
        FileNotFoundError: when there is no such model.
    """
    from espalike.domain import ChemicalDomain
    from espalike.modelfile import count_weights, describe, find

    path = find(name)
    header = describe(path)
    domain = ChemicalDomain.from_header(header)
    return {
        "kind": "model",
        "path": str(path),
        **header,
        "form": [_class_name(term) for term in header["config"].get("terms", [])],
        "network": _network(header["config"]),
        "parameters": count_weights(path),
        "features": len(header["features"]),
        "elements": domain.symbols,
        "net charge": domain.charge_range,
        "domain": {**header["domain"], "environments": len(domain.environments)},
        "surroundings": len(domain.counts),
        "split": {key: len(keys) for key, keys in header["split"].items()},
        "bytes": path.stat().st_size,
        "sha256": _sha256(path),
    }


def _network(config: dict[str, Any]) -> str:
    conv, layers, width = _class_name(config.get("conv", "")), config.get("layers", "?"), config.get("width", "?")
    return f"{conv}, {layers} layers, width {width}"


def _class_name(node: Any) -> str:
    """The class name in a `_target_` of a configuration."""
    target = node.get("_target_", "?") if isinstance(node, dict) else node
    return str(target).rsplit(".", 1)[-1]


def summary(content: dict[str, Any]) -> dict[str, str]:
    """A model's functional form, network, size and domain, for a table."""
    members = f"{content['members']} members, each " if content["members"] > 1 else ""
    named = content["notes"].get("forcefield")
    return {
        "functional form": (f"{named}: " if isinstance(named, str) else "") + ", ".join(content["form"]),
        "network": members + content["network"],
        "size": f"{content['parameters']} weights, {content['bytes'] / 1e6:.3g} MB",
        "elements": " ".join(content["elements"]) or "any",
        "net charge": f"{content['net charge']} e" if content["elements"] else "any",
        "atom environments": str(content["domain"]["environments"]),
        "levels of theory": ", ".join(filter(None, content["config"].get("levels", []))),
    }


ERRORS = (
    *("split", "data", "molecules", "conformers"),
    *("energy RMSE\n[kcal/mol]", "force RMSE\n[kcal/mol/Å]", "interaction MAE\n[kcal/mol]"),
)
"""Columns of `errors`; the last one is of complexes, whose geometries are counted as conformers."""


def errors(content: dict[str, Any]) -> list[tuple]:
    """Errors of a model in validation and test, as rows of a table; a number that is not known is None."""
    figures, members = content["figures"], content["notes"].get("members", [])
    rows = _validation("validation", figures)
    rows += [row for member in members for row in _validation(f"validation, seed {member['seed']}", member)]
    rows = [(*row, None) for row in rows]  # validation has no interaction energies
    names = (("molecules", "complexes"), ("conformers", "points"), ("energy_rmse",), ("force_rmse",), ("mae",))
    for data, row in figures.get("test", {}).items():
        rows.append(("test", data, *(next((row[n] for n in either if n in row), None) for either in names)))
    return rows


def _validation(split: str, figures: dict[str, Any]) -> list[tuple]:
    metrics = figures.get("validation", {})
    sources = dict.fromkeys(name.split("/")[1] for name in metrics if name.endswith("_rmse"))
    names = ("energy_rmse", "forces_rmse")
    return [(split, s, None, None, *(metrics.get(f"val/{s}/{name}") for name in names)) for s in sources]


def _print_model(content: dict[str, Any]) -> None:
    """Tables of what a model is, what it was trained on, and its errors."""
    counts = ", ".join(f"{n} {split}" for split, n in content["split"].items())
    facts = {
        **summary(content),
        "connectivities": counts or "none",
        "best epoch": str(content["notes"].get("epoch", "")),
        "file": content["path"],
        "SHA-256": content["sha256"],
    }
    print_table("model", ("", ""), [(name, fact) for name, fact in facts.items() if fact])
    print_table(
        "training data",
        ("store", "source", "entries", "conformers", "levels", "licence", "hash"),
        [
            (store.get("name"), source, n["entries"], n["conformers"], ", ".join(n["levels"]), licence, digest[:12])
            for store in content["data"]
            for licence, digest in [(store.get("licence"), store.get("hash", ""))]
            for source, n in store.get("sources", {}).items()
        ],
    )
    figures = content["figures"]
    print_table("errors", ERRORS, errors(content))
    if "spread" in figures:
        spread = [(name, f"{value:.4g}") for name, value in figures["spread"].items()]
        print_table("spread over the members", ("parameter", "root mean square"), spread)
    print(f"configuration and all settings of the training: espalike info {content['path']} --json")


def _sha256(path: Path) -> str:
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _lines(content: Any, depth: int = 0) -> list[str]:
    """Nested content as indented text; lists of plain values stay on their line."""
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
            lines.append(f"{lead}: {_in_one_line(value)}")
    return lines


def _in_one_line(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_in_one_line, value)) or "none"
    if isinstance(value, float):
        return f"{value:.4g}"
    return "none" if value is None or value in ("", {}) else str(value)
