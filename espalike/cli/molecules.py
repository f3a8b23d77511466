"""`espalike molecules`: sources → candidates → a list of molecules that covers their chemistry."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from espalike.cli.molecules_input import expand, listed, read_source
from espalike.cli.molecules_table import Candidate, Table, show, write

if TYPE_CHECKING:
    from espalike.chem.pool import Derived, Examined, Recipe

HELP = """usage: espalike molecules input=[SOURCE,...] out=FILE.smi [key=value ...]

Choose molecules that cover the chemistry of their sources, to label them for training. Candidates are the molecules of
the sources, their protonation states and tautomers at pH 7, fragments (cut at BRICS bonds), and recombined fragments.
Every environment of an atom, a bond, an angle or a torsion in the sources should occur in 5 chosen molecules; if fewer
candidates have it, all of them are chosen. `espalike label input=FILE.smi` reads the list.

  espalike molecules input=groups out=groups-cover.smi most=100
  espalike molecules 'input=[minidrugbank,freesolv,rdkit]' out=cover.smi workers=2
  espalike molecules 'input=[mine.sdf,data.h5]' 'split=[train]' 'exclude=[data.h5]' 'exclude_split=[test]' out=mine.smi

  input=                 .smi or SDF files, stores, HDF5 files; or collections that come with installed packages:
                           groups (charged and rare groups, macrocycles), minidrugbank, freesolv (OpenFF toolkit);
                           rdkit: nci, wehi, pains, nibr, zinc, freewilson, cdk2, egfr; sample (the embedded data)
  split=[train,val]      of stores and HDF5 files, the splits to take
  exclude=[FILE,...]     no chosen molecule has the connectivity key of one of these; exclude_split=[test]: their splits
  before=[FILE,...]      existing data, whose coverage is shown, too; extend=true chooses only what they lack
  needed=5               number of chosen molecules that should have an environment
  most=N                 at most N molecules, those that add most
  cost=atoms|molecules   keep the number of atoms, or that of molecules, small
  recipe.ph=7, recipe.margin=1, recipe.tautomers=3, recipe.joined=3, recombine=10000: how candidates are made
  recipe.limits: .atoms=45, .macrocycle_atoms=75, .charge=2, .rotatable_bonds=10, .elements=[H,C,...] of candidates

Beside FILE.smi are written: FILE.json (settings, counts by reason, table of coverage), FILE.csv (where each molecule
comes from) and FILE.patterns.csv (each environment as SMARTS, and how often it occurs)."""


@dataclass
class _Source:
    """Molecules of all inputs, and what happened to the others.

    Attributes:
        molecules: name and SMILES, each once.
        origin: input of each name.
        rejected: number of molecules by reason.
    """

    molecules: list[tuple[str, str]] = field(default_factory=list)
    origin: dict[str, str] = field(default_factory=dict)
    rejected: Counter[str] = field(default_factory=Counter)


def run(cfg) -> int:
    """Run the job; 0 all read, 1 some molecules of the sources could not be read, and are counted.

    Raises:
        ValueError: for wrong settings, a source that is not there, no molecule left.
    """
    from hydra.utils import instantiate
    from rich.console import Console

    begin = time.monotonic()
    _check(cfg)
    console = Console(stderr=True, soft_wrap=True)
    recipe = instantiate(cfg.recipe, _convert_="all")
    source = _read(expand(listed(cfg.input)), listed(cfg.split), cfg.limit)
    with _processes(cfg.workers, console) as work:
        excluded = _excluded(cfg, work)
        before = _existing(_read(expand(listed(cfg.before)), listed(cfg.split), None), work)
        derived = _derived(source, recipe, excluded, work)
        candidates = _candidates(derived, source, cfg, recipe, excluded, work)
        if not candidates:
            raise ValueError(f"input={cfg.input}: no molecule to choose from; rejected: {dict(source.rejected)}")
        table = Table.of(derived, candidates, before)
        chosen = _choose(candidates, table, cfg, source.rejected, work)
    after = table.count(table.rows[i] for i in chosen) + (table.before if cfg.extend else 0)
    rows = table.coverage(after, cfg.needed, bool(cfg.before))
    show(rows, source.rejected, candidates, chosen)
    settings = {"rejected": dict(source.rejected), "seconds": round(time.monotonic() - begin, 1)}
    write(cfg, [candidates[i] for i in chosen], candidates, table, after, rows, settings)
    return 1 if source.rejected["unreadable"] else 0


def _check(cfg) -> None:
    if Path(cfg.out).suffix != ".smi":
        raise ValueError(f"out={cfg.out}: expected a file name that ends in .smi")
    for name in ("input", "exclude", "before"):
        sources = [cfg[name]] if isinstance(cfg[name], str) else cfg[name] or ()
        for source in sources:
            if Path(cfg.out).exists() and os.path.isfile(source) and Path(cfg.out).samefile(source):
                raise ValueError(f"out={cfg.out} would replace {name}={source}, which is read; give another name")
    if cfg.cost not in ("atoms", "molecules"):
        raise ValueError(f"cost={cfg.cost}: expected atoms or molecules")
    for name in ("needed", "workers"):
        if cfg[name] < 1:
            raise ValueError(f"{name}={cfg[name]}: expected a number of 1 or more")


Work = Callable[[str, Callable, Sequence], Iterator]
"""`work(text, function, arguments)`: results in the order of the arguments, with a progress bar of that text."""


@contextmanager
def _processes(workers: int, console) -> Iterator[Work]:
    """Functions are called in this process, or in several ones."""
    from rich.progress import track

    from espalike.workers import pool

    with pool(workers) if workers > 1 else nullcontext() as executor:

        def work(text: str, function: Callable, arguments: Sequence) -> Iterator:
            if not console.is_terminal:
                console.print(f"{text}: {len(arguments)}", markup=False, highlight=False)
            results = executor.map(function, arguments, chunksize=32) if executor else map(function, arguments)
            shown = track(results, text, total=len(arguments), console=console, disable=not console.is_terminal)
            return iter(shown)

        yield work


def _read(sources: Sequence[str], splits: Sequence[str], limit: int | None) -> _Source:
    """The molecules of some inputs, each once."""
    from espalike.chem.pool import components

    result = _Source()
    seen: set[str] = set()
    for source in sources:
        for number, (name, smiles) in enumerate(read_source(source, list(splits))):
            if limit is not None and number >= limit:
                break
            try:
                parts = components(smiles) if smiles else []
            except (ValueError, RuntimeError):  # not SMILES, or RDKit's own errors
                parts = []
            result.rejected["unreadable"] += not parts
            for part in parts:
                if part in seen:
                    result.rejected["again"] += 1
                    continue
                seen.add(part)
                result.molecules.append((name, part))
                result.origin.setdefault(name, source)
    return result


def _excluded(cfg, work: Work) -> frozenset[str]:
    """Connectivity keys of the molecules to exclude."""
    from espalike.chem.pool import key_of

    keys: set[str] = set()
    for source in expand(listed(cfg.exclude)):
        read = _read([source], listed(cfg.exclude_split), None)
        found = {key for key in work(f"keys of {source}", key_of, [smiles for _, smiles in read.molecules]) if key}
        if not found:
            raise ValueError(f"exclude={source}: no molecule to exclude; exclude_split={cfg.exclude_split}")
        keys |= found
    return frozenset(keys)


def _existing(source: _Source, work: Work) -> list[Examined]:
    """Keys and environments of existing molecules."""
    from espalike.chem.pool import examine

    examined = work("existing data", examine, [smiles for _, smiles in source.molecules])
    return [entry for entry in examined if entry.reason is None]


def _derived(source: _Source, recipe: Recipe, excluded: frozenset[str], work: Work) -> list[Derived]:
    """What is made of the sources; of an excluded molecule nothing is made."""
    from espalike.chem.pool import derive

    result = []
    for made in work("candidates", partial(_unpacked, derive, recipe), source.molecules):
        if made.key in excluded:
            source.rejected["excluded"] += 1
            continue
        source.rejected.update([made.reason] if made.reason else [])
        result.append(made)
    return result


def _unpacked(derive, recipe: Recipe, named: tuple[str, str]) -> Derived:
    return derive(*named, recipe)


def _candidates(
    derived: Sequence[Derived], source: _Source, cfg, recipe: Recipe, excluded: frozenset[str], work: Work
) -> list[Candidate]:
    """All candidates that the program can use and that are not excluded, each once, in the order of the sources."""
    from espalike.chem.enumerate import recombined
    from espalike.chem.pool import FRAGMENT, GIVEN, RECOMBINED, examine

    found: dict[str, tuple[str, str, str]] = {}
    for fragments in (False, True):  # molecules as they are go before equal ones that were cut out of others
        for made in derived:
            number: Counter[str] = Counter()
            for smiles, what in made.candidates:
                if (what == FRAGMENT) == fragments and smiles not in found:
                    number[what] += 1
                    name = made.name if what == GIVEN else f"{made.name}-{what}{number[what]}"
                    found[smiles] = name, what, source.origin[made.name]
    ends = [end for made in derived for end in made.open_ends]
    for number_of, smiles in enumerate(recombined(ends, cfg.recombine, cfg.seed, recipe.limits), start=1):
        found.setdefault(smiles, (f"recombined-{number_of}", RECOMBINED, "recombined"))
    result = []
    for (smiles, (name, what, origin)), entry in zip(
        found.items(), work("environments", examine, list(found)), strict=True
    ):
        if entry.reason is not None or entry.key in excluded:
            source.rejected["excluded candidate" if entry.reason is None else f"candidate {entry.reason}"] += 1
        else:
            result.append(Candidate(name, smiles, what, origin, entry))
    return result


def _choose(candidates: Sequence[Candidate], table: Table, cfg, rejected: Counter[str], work: Work) -> list[int]:
    """Numbers of the chosen candidates; those without coordinates are left out and others take their place.

    An environment that few candidates have counts less, so that with `most` the common ones are covered first.
    """
    import numpy as np

    from espalike.chem.cover import cover
    from espalike.chem.pool import embeddable

    costs = [float(c.examined.atoms) if cfg.cost == "atoms" else 1.0 for c in candidates]
    rows = list(table.rows)
    nothing = np.zeros(0, dtype=np.int64)
    if cfg.extend:
        rows = [nothing if c.examined.key in table.known else r for c, r in zip(candidates, rows, strict=True)]
    weights = np.minimum(table.count(table.rows) / cfg.needed, 1.0).clip(min=0.1)
    counts = table.before if cfg.extend else np.zeros_like(table.before)
    checked: set[int] = set()
    while True:
        chosen = cover(rows, cfg.needed, costs, weights, counts, cfg.most)
        new = [i for i in chosen if i not in checked] if cfg.embed else []
        checked.update(new)
        fine = work("coordinates", partial(embeddable, seed=cfg.seed), [candidates[i].smiles for i in new])
        failed = [i for i, good in zip(new, fine, strict=True) if not good]
        rejected["candidate without coordinates"] += len(failed)
        if not failed:
            return chosen
        for i in failed:
            rows[i] = nothing
