"""Errors of each functional form: python benchmarks/forms.py [RUN...], after scripts/train_forms.sh.

Scores every trained model (by default runs/forms/*) on validation and test sets of torsion drives and thermal frames.
Each is compared with a reference trained in the same way: forms with class1, ablations of class II with class2.
Differences are paired: the same molecules are drawn for both models, 2,000 times. GFN2-xTB validation frames are scored
with the level shift that training learned for them. Scores are stored beside each model (scores.json), so that a test
set is used once per model.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from espalike.data.batches import Batches
from espalike.data.dataset import StoreDataset
from espalike.data.sampler import Picks
from espalike.data.store import Store
from espalike.energy import energy
from espalike.evaluation.metrics import METRICS, energy_errors, estimates, force_errors, pooled, sums
from espalike.files import write
from espalike.model import ForceFieldModel, load

SETS = {
    "td val": ("runs/td", "val"),
    "xTB val": ("runs/xtb_td", "val"),
    "DFT val": ("sample", "val"),
    "td test": ("runs/td", "test"),
    "DFT test": ("sample", "test"),
}
"""Torsion drives (constrained minima), GFN2-xTB thermal frames, DFT thermal frames of the embedded set."""
SHOWN = (
    ("td val", 0), ("xTB val", 2), ("DFT val", 2), ("td test", 0), ("td test", 2), ("DFT test", 0), ("DFT test", 2)
)  # fmt: skip
Sums = tuple[np.ndarray, list[str]]


def score(model: ForceFieldModel, path: str, split: str) -> Sums:
    """`metrics.sums` of every entry, and the keys of their molecules."""
    data = StoreDataset([Store.open(path)], split, model.levels)
    rows = []
    batches = Batches(data, torch.float64)
    for i, count in enumerate(data.counts.tolist()):
        batch = batches.__getitems__(Picks(np.array([i]), np.array([count]), np.arange(count)))
        predicted = energy(model(batch), batch.xyz)
        e, f = predicted.energy[:, 0].numpy(), predicted.forces.numpy()
        known = batch.energy[:, 0].numpy(), batch.forces.numpy()
        rows.append(sums(energy_errors(e, known[0]), force_errors(f, known[1])))
    return np.stack(rows), data.keys()


def scores(run: Path) -> dict[str, Sums]:
    """Scores of a run on all sets, computed if its model is newer than the stored scores."""
    kept, file = run / "scores.json", run / "model.espalike"
    if not kept.is_file() or kept.stat().st_mtime < file.stat().st_mtime:
        model = load(file).double()
        with torch.no_grad():
            results = {name: score(model, *where) for name, where in SETS.items()}
        write(kept, json.dumps({name: [values.tolist(), keys] for name, (values, keys) in results.items()}))
    return {name: (np.array(values), keys) for name, (values, keys) in json.loads(kept.read_text()).items()}


def difference(one: Sums, other: Sums, metric: int, resamples: int = 2000) -> tuple[float, float, float]:
    """A metric of `one` less that of `other`, and its 95 % interval over the same resampled molecules."""
    _, group = np.unique(one[1], return_inverse=True)
    assert one[1] == other[1]
    a, b = (np.zeros((group.max() + 1, values.shape[1])) for values, _ in (one, other))
    np.add.at(a, group, one[0])
    np.add.at(b, group, other[0])
    draws = np.random.default_rng(0).multinomial(len(a), np.full(len(a), 1.0 / len(a)), size=resamples)
    drawn = pooled(draws @ a)[:, metric] - pooled(draws @ b)[:, metric]
    value = pooled(a.sum(0))[metric] - pooled(b.sum(0))[metric]
    return float(value), *(float(x) for x in np.nanpercentile(drawn, [2.5, 97.5]))


def heading(name: str, metric: int) -> str:
    return f"{name}\n{'E kcal/mol' if metric == 0 else 'F kcal/mol/Å'}"


def errors_table(results: dict[str, dict[str, Sums]]) -> Table:
    table = Table(title="RMSE of energies (E) and force components (F), with 95 % intervals over molecules")
    table.add_column("run")
    for name, metric in SHOWN:
        table.add_column(heading(name, metric), justify="right")
    for run, of in results.items():
        cells = []
        for name, metric in SHOWN:
            estimate = estimates(*of[name])[metric]
            interval = f" [{estimate.low:.2f}, {estimate.high:.2f}]" if "test" in name else ""
            cells.append(f"{estimate.value:.2f}{interval}")
        table.add_row(run, *cells)
    return table


def differences_table(results: dict[str, dict[str, Sums]], reference: str, runs: list[str]) -> Table:
    table = Table(title=f"RMSE less that of {reference}, with 95 % intervals of the paired difference")
    table.add_column("run")
    for name, metric in SHOWN:
        table.add_column(heading(name, metric), justify="right")
    for run in runs:
        cells = [difference(results[run][name], results[reference][name], metric) for name, metric in SHOWN]
        table.add_row(run, *(f"{value:+.2f} [{low:+.2f}, {high:+.2f}]" for value, low, high in cells))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path, help="folders of runs; default: all of runs/forms")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()
    runs = arguments.runs or sorted(path.parent for path in Path("runs/forms").glob("*/done"))
    if not runs:
        parser.error("no finished run in runs/forms; first: bash scripts/train_forms.sh")
    results = {run.name: scores(run) for run in track(runs, description="scoring", transient=True)}
    console = Console(width=180)
    console.print(errors_table(results))
    forms = [name for name in results if "-" not in name and name != "class1"]
    ablations = [name for name in results if name.startswith("class2-")]
    if "class1" in results and forms:
        console.print(differences_table(results, "class1", forms))
    if "class2" in results and ablations:
        console.print(differences_table(results, "class2", ablations))
    if arguments.json:
        figures = {
            run: {name: {m: vars(e) for m, e in zip(METRICS, estimates(*of[name]), strict=True)} for name in SETS}
            for run, of in results.items()
        }
        write(arguments.json, json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
