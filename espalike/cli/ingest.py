"""`espalike ingest`: a reader's entries, checked, filtered and split, into a store."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from espalike.assigners.reference import References
    from espalike.data.audit import Verdict
    from espalike.data.ingest import Job

_HELP = r"""usage: espalike ingest reader=NAME reader.path=FILE out=DIR [key=value ...]

Read a QM data set, check and filter every entry, count rejections by reason, and write a store.

  printf '3\nProperties=species:S:1:pos:R:3 smiles=O pbc="F F F" energy=%s\nO 0 0 0\nH %s 0 0\nH -0.24 0.93 0\n' \
    -74.963 0.96 -74.960 1.01 > water.xyz
  espalike ingest reader=extxyz reader.path=water.xyz reader.level=HF/STO-3G reader.units='energies hartree' \
    out=store/water licence=MIT origin=mine
  espalike ingest reader=hdf5 reader.path=torsiondrives.h5 out=store/td reference=openff workers=4

  reader=NAME             layout of the data:
READERS
                          reader.level=, reader.units= where the file lacks them; `espalike ingest reader=NAME
                          --cfg job` prints the options of a layout
  split=keep|hash         keep: the data's own splits, or by connectivity where there are none; hash: by connectivity,
                          with seed= and fractions=
  reference=none|openff   charges (NAGL AM1-BCC) and Lennard-Jones parameters kept as training references;
                          force_field=FILE, workers=N processes, cache=DIR (or null) of the folder where they are cached
  against=[DIR,...]       other stores: a geometry that one of them has at the same level is not stored again
  audit=error|warn|off    what to do when labels seem to have a wrong unit or sign: forces that do not fit the energies,
                          or energies that do not fit the elements
  shard=MB                size of the store's files
  force=true              ingest again even if nothing has changed
  origin=, licence=       origin of the data and its licence, where the file lacks them

Filters leave out the following and count it by reason (null switches a filter off):
  filters.elements=[H,C,N,O]    entries with other elements
  filters.net_charges=[0]       entries with another net charge
  filters.closed_shell=true     entries with an odd number of electrons
  filters.connectivity=true     geometries with broken, formed or transferred bonds
  filters.force_ceiling=500     geometries with a force component above this, kcal/mol/A
  filters.outliers=true         geometries whose energy is far from the entry's median (300 + 20 per atom kcal/mol)
  filters.energy_window=        geometries farther above the entry's lowest than this, kcal/mol
  filters.duplicates=0.001      repeats within an entry, up to this many A; and geometries that an earlier entry of the
                                same molecule and level has, up to 1e-5 A
  filters.rmsd=                 geometries nearer to an earlier one of the entry than this, A (0.25 thins conformers)
`espalike info DIR --rejected [ID]` lists the rejections and their reasons.

After a stop, the same command continues. After it has finished, the same command does nothing."""


def _readers() -> str:
    """The layouts, wrapped like the help text."""
    names = sorted(path.name.removesuffix(".yaml") for path in files("espalike.configs").joinpath("reader").iterdir())
    return textwrap.fill(", ".join(names), 110, initial_indent=" " * 26, subsequent_indent=" " * 26)


HELP = _HELP.replace("READERS", _readers())

_SHOWN = 8
"""Messages printed; the others are counted only."""


def run(cfg) -> int:
    """Run the job; 0 all entries stored or filtered, 1 some were bad and left out.

    Raises:
        ValueError: when nothing can be done: no file, units or licence unknown, no entry left, impossible units.
    """
    from rich.console import Console

    from espalike.cli.common import references, show_store
    from espalike.data import ingest

    console = Console(stderr=True, soft_wrap=True)
    reference, described = references(cfg.reference, cfg.force_field, cfg.workers, cfg.cache)
    job = _job(cfg, reference, described, console)
    shown = 0

    def report(message: str) -> None:
        nonlocal shown
        shown += 1
        if shown <= _SHOWN:
            console.print(message, style="yellow", markup=False, highlight=False)

    try:
        result = ingest.run(job, report)
    finally:
        if reference is not None:
            reference.close()
    if result.unchanged:
        print(f"{result.store.path}: unchanged input and settings, nothing to do; force=true ingests it again")
    if result.resumed:
        print(f"continued after {result.resumed} entries of an earlier run")
    if shown > _SHOWN:
        console.print(f"... and {shown - _SHOWN} more; espalike info {cfg.out} --rejected lists them", style="yellow")
    for verdict in result.verdicts:
        _print_verdict(verdict, console)
    show_store(result.store, result.store.manifest["rejected"], "is" if result.unchanged else "wrote")
    return 1 if result.faults else 0


def _job(cfg, reference: References | None, described: str, console) -> Job:
    """The job that the settings describe."""
    from hydra.utils import instantiate
    from omegaconf import OmegaConf
    from rich.progress import track

    from espalike.cli.common import command_line
    from espalike.data.ingest import Job
    from espalike.data.split import split_of
    from espalike.data.store import open_stores

    for name, allowed in (("split", ("keep", "hash")), ("audit", ("error", "warn", "off"))):
        if cfg[name] not in allowed:
            raise ValueError(f"{name}={cfg[name]}: expected {' or '.join(allowed)}")
    fractions = dict(cfg.fractions)
    split_of("", cfg.seed, fractions)  # a wrong share is an error before the work
    reader = instantiate(cfg.reader, _convert_="all")
    given = {key: cfg[key] for key in ("origin", "licence") if cfg[key]}
    split = {"rule": cfg.split, "seed": cfg.seed, "fractions": fractions}
    filters = OmegaConf.to_container(cfg.filters, resolve=True)
    options = OmegaConf.to_container(cfg.reader, resolve=True)
    assert isinstance(options, dict)
    options |= {"path": None, "source": reader.source}  # the input is known by its content

    def assign_split(record) -> str:
        kept = cfg.split == "keep" and record.split
        return record.split if kept else split_of(record.key, cfg.seed, fractions)

    def progress(entries: Iterator, done: int) -> Iterable:
        text = f"ingest {reader.source}"
        hidden = not console.is_terminal
        return track(entries, text, total=len(reader), completed=done, console=console, disable=hidden)

    return Job(
        reader=reader,
        out=Path(cfg.out),
        filters=instantiate(cfg.filters, _convert_="all"),
        assign_split=assign_split,
        settings={"reader": options, "filters": filters, "split": split, "reference": described, "given": given},
        manifest={
            **reader.manifest,
            **given,
            "command": command_line("ingest"),
            "split": split,
            "filters": filters,
            "reference": described,
        },
        reference=reference,
        against=open_stores(cfg.against if isinstance(cfg.against, str) else list(cfg.against or [])),
        audit=cfg.audit,
        shard=cfg.shard,
        force=cfg.force,
        progress=progress,
    )


def _print_verdict(verdict: Verdict, console) -> None:
    """Print an audit's outcome in one line: on stdout, or on stderr if it failed or warns."""
    text = f"audit of {verdict.audit}, {verdict.where}: {verdict.outcome}: {verdict.message}"
    if verdict.outcome in ("failed", "warning"):
        console.print(text, style="yellow", markup=False, highlight=False)
    else:
        print(text)
