"""What `espalike molecules` reports: the candidates, the table of environments, and the files beside the list."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espalike.tables import counted

if TYPE_CHECKING:
    import numpy as np

    from espalike.chem.pool import Derived, Examined, Pattern


@dataclass(frozen=True)
class Candidate:
    """A molecule to choose from.

    Attributes:
        name: its name in the list.
        smiles: canonical SMILES.
        what: `given`, `state`, `tautomer`, `fragment` or `recombined`.
        origin: input that it comes from.
        examined: its key, atoms and environments.
    """

    name: str
    smiles: str
    what: str
    origin: str
    examined: Examined


@dataclass(frozen=True)
class Table:
    """Environments of the sources, numbered.

    Attributes:
        patterns: the environments, those of one kind together.
        rows: numbers of each candidate's environments.
        before: how often each occurs in existing data, shape `(P,)`.
        known: keys of the existing molecules.
    """

    patterns: list[Pattern]
    rows: list[np.ndarray]
    before: np.ndarray
    known: frozenset[str]

    @staticmethod
    def of(derived: Sequence[Derived], candidates: Sequence[Candidate], before: Sequence[Examined]) -> Table:
        """Environments that only recombined molecules have do not count: they are a means."""
        import numpy as np

        from espalike.chem.environments import KINDS
        from espalike.chem.pool import RECOMBINED

        targets = {pattern for made in derived for pattern in made.patterns}
        targets.update(p for c in candidates if c.what != RECOMBINED for p in c.examined.patterns)
        patterns = sorted(targets, key=lambda pattern: (KINDS.index(pattern[0]), pattern[1]))
        index = {pattern: number for number, pattern in enumerate(patterns)}

        def numbers(entry: Examined) -> np.ndarray:
            return np.array(sorted(index[p] for p in entry.patterns if p in index), dtype=np.int64)

        counts = np.zeros(len(patterns), dtype=np.int64)
        for entry in before:
            counts[numbers(entry)] += 1
        known = frozenset(entry.key for entry in before)
        return Table(patterns, [numbers(c.examined) for c in candidates], counts, known)

    def count(self, rows: Iterable[np.ndarray]) -> np.ndarray:
        """In how many of these candidates each environment occurs, shape `(P,)`."""
        import numpy as np

        counts = np.zeros(len(self.patterns), dtype=np.int64)
        for row in rows:
            counts[row] += 1
        return counts

    def coverage(self, after: np.ndarray, needed: int, before: bool) -> list[dict[str, Any]]:
        """How many environments of each kind occur at least once, and `needed` times."""
        import numpy as np

        from espalike.chem.environments import KINDS

        of_kind = {kind: np.array([p[0] == kind for p in self.patterns], dtype=bool) for kind in KINDS}
        of_kind["all"] = np.ones(len(self.patterns), dtype=bool)
        counts = {"pool": self.count(self.rows)} | ({"before": self.before} if before else {}) | {"after": after}
        rows = []
        for kind, mask in of_kind.items():
            row: dict[str, Any] = {"kind": kind, "number": int(mask.sum())}
            for name, values in counts.items():
                row |= {f"{name}≥{n}": int((values[mask] >= n).sum()) for n in dict.fromkeys((1, needed))}
            rows.append(row)
        return rows


def show(
    rows: Sequence[dict], rejected: Mapping[str, int], candidates: Sequence[Candidate], chosen: Sequence[int]
) -> None:
    """Print the table of environments, what was chosen, and what was left out."""
    from rich.console import Console
    from rich.table import Table as Shown

    console = Console(markup=False)
    coverage = Shown(title="environments, by number of molecules that have them")
    for column in rows[0]:
        coverage.add_column(column, justify="left" if column == "kind" else "right")
    for row in rows:
        coverage.add_row(*map(str, row.values()))
    console.print(coverage)
    origin = Shown(title="molecules")
    for column in ("what", "candidates", "chosen"):
        origin.add_column(column, justify="left" if column == "what" else "right")
    pool, taken = Counter(c.what for c in candidates), Counter(candidates[i].what for i in chosen)
    for what in pool:
        origin.add_row(what, str(pool[what]), str(taken[what]))
    origin.add_row("all", str(len(candidates)), str(len(chosen)))
    console.print(origin)
    left_out = {reason: count for reason, count in sorted(rejected.items()) if count}
    if left_out:
        out = Shown(title="left out")
        out.add_column("reason")
        out.add_column("count", justify="right")
        for reason, count in left_out.items():
            out.add_row(reason, str(count))
        console.print(out)


def write(
    cfg,
    chosen: Sequence[Candidate],
    candidates: Sequence[Candidate],
    table: Table,
    after: np.ndarray,
    rows: Sequence[dict],
    found: dict,
) -> None:
    """The list, and beside it the report, the origin of each molecule, and the environments."""
    from espalike import files
    from espalike.chem import safe_names
    from espalike.cli.common import command_line
    from espalike.cli.molecules_input import COLLECTIONS, expand, listed

    out = Path(cfg.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    names = safe_names([c.name for c in chosen])
    pool = table.count(table.rows)
    report = {
        "command": command_line("molecules"),
        "licences": {s: COLLECTIONS[s].licence for s in expand(listed(cfg.input)) if s in COLLECTIONS},
        "candidates": Counter(c.what for c in candidates),
        "chosen": Counter(c.what for c in chosen),
        "chosen by input": Counter(c.origin for c in chosen),
        "atoms": sum(c.examined.atoms for c in chosen),
        "coverage": rows,
        **found,
    }
    molecules = [["name", "smiles", "what", "input", "atoms", "key"]]
    for name, c in zip(names, chosen, strict=True):
        molecules.append([name, c.smiles, c.what, c.origin, str(c.examined.atoms), c.examined.key])
    patterns = [["kind", "smarts", "pool", "before", "after"]]
    for (kind, text), *counts in zip(table.patterns, pool.tolist(), table.before.tolist(), after.tolist(), strict=True):
        patterns.append([kind, text, *map(str, counts)])
    files.write(out.with_suffix(".patterns.csv"), _csv(patterns))
    files.write(out.with_suffix(".csv"), _csv(molecules))
    files.write(out.with_suffix(".json"), json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    files.write(out, "".join(f"{c.smiles} {name}\n" for name, c in zip(names, chosen, strict=True)))
    beside = f"{out.stem}.json, {out.stem}.csv and {out.stem}.patterns.csv"
    print(f"wrote {out}, {counted(len(chosen), 'molecule')}; {beside} beside it")


def _csv(rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
