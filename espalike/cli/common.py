"""What several jobs share: the source of reference parameters, the command for the manifest, a table of a store."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from espalike.assigners.reference import References
    from espalike.data.store import Store


def references(
    name: str, force_field: str, workers: int = 1, cache: str | None = "auto"
) -> tuple[References | None, str]:
    """The source of reference parameters, or None, and its description for the manifest.

    Args:
        name: `none` or `openff`.
        force_field: OpenFF force field of the Lennard-Jones parameters.
        workers: number of processes that compute references.
        cache: folder where they are cached; `auto`: in the user's cache folder; None: nowhere.

    Raises:
        ValueError: for another name.
    """
    if name == "none":
        return None, "none"
    if name != "openff":
        raise ValueError(f"reference={name}: expected none or openff")
    from espalike.assigners.reference import PooledReferences, References
    from espalike.files import cache_folder

    folder = cache_folder("references") if cache == "auto" else cache
    pooled = workers > 1
    source = PooledReferences(workers, force_field, cache=folder) if pooled else References(force_field, cache=folder)
    return source, source.description


def command_line(job: str) -> str:
    """The command as typed, for the manifest; without its settings when not run from the command line."""
    from hydra.core.hydra_config import HydraConfig

    overrides = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    return shlex.join(["espalike", job, *overrides])


def folder(text: str) -> str:
    """The name of a folder, as an option; no name is an error, since it would be the present folder."""
    if not text.strip():
        raise argparse.ArgumentTypeError("expected the name of a folder; the present one is .")
    return text


def show_store(store: Store, rejected: Mapping[str, int], verb: str = "wrote") -> None:
    """Print the numbers of molecules and conformers by split, the rejections by reason, and the files of a store."""
    from rich.console import Console
    from rich.table import Table

    from espalike.data.shards import data_files

    table = Table(title=f"store {store.path}")
    for column in ("split", "molecules", "connectivities", "entries", "conformers"):
        table.add_column(column, justify="left" if column == "split" else "right")
    for split, counts in store.counts["splits"].items():
        table.add_row(split, *(str(counts[key]) for key in ("molecules", "connectivities", "entries", "conformers")))
    console = Console(markup=False)
    console.print(table)
    if rejected:
        out = Table(title="left out")
        out.add_column("reason")
        out.add_column("count", justify="right")
        for reason, count in sorted(rejected.items()):
            out.add_row(reason, str(count))
        console.print(out)
    names = data_files(store.manifest)
    files = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
    print(f"{verb} {store.path / files} and manifest.json, hash {store.hash[:12]}")
