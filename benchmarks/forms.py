"""What each functional form buys: python benchmarks/forms.py [RUN...], after scripts/train_forms.sh.

Scores every trained model (runs/forms/* unless runs are named) on validation and test sets of torsion drives and
thermal frames, and compares each with a reference trained alike: forms with class1, ablations of class II with
class2. Differences are paired: the same molecules are drawn for both models, 2,000 times. GFN2-xTB validation frames
are scored with the level shift that training learned for them. Scores are kept beside each model (scores.json), so that
a test set is touched once a model.
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
    """`metrics.sums` of every entry, and the molecule it is of."""
    data = StoreDataset([Store.open(path)], split, model.levels)
    found = []
    batches = Batches(data, torch.float64)
    for i, count in enumerate(data.counts.tolist()):
        batch = batches.__getitems__(Picks(np.array([i]), np.array([count]), np.arange(count)))
        predicted = energy(model(batch), batch.xyz)
        e, f = predicted.energy[:, 0].numpy(), predicted.forces.numpy()
        known = batch.energy[:, 0].numpy(), batch.forces.numpy()
        found.append(sums(energy_errors(e, known[0]), force_errors(f, known[1])))
    return np.stack(found), data.keys()


def scores(run: Path) -> dict[str, Sums]:
    """Scores of a run on all sets, computed when its model is newer than what is kept."""
    kept, file = run / "scores.json", run / "model.espalike"
    if not kept.is_file() or kept.stat().st_mtime < file.stat().st_mtime:
        model = load(file).double()
        with torch.no_grad():
            found = {name: score(model, *where) for name, where in SETS.items()}
        text = json.dumps({name: [values.tolist(), keys] for name, (values, keys) in found.items()})
        temporary = kept.with_suffix(".tmp")
        temporary.write_text(text)
        temporary.replace(kept)
    return {name: (np.array(values), keys) for name, (values, keys) in json.loads(kept.read_text()).items()}


def difference(own: Sums, other: Sums, metric: int, resamples: int = 2000) -> tuple[float, float, float]:
    """A metric of `own` less that of `other`, and its 95 % interval over the same resampled molecules."""
    _, group = np.unique(own[1], return_inverse=True)
    assert own[1] == other[1]
    a, b = (np.zeros((group.max() + 1, values.shape[1])) for values, _ in (own, other))
    np.add.at(a, group, own[0])
    np.add.at(b, group, other[0])
    draws = np.random.default_rng(0).multinomial(len(a), np.full(len(a), 1.0 / len(a)), size=resamples)
    drawn = pooled(draws @ a)[:, metric] - pooled(draws @ b)[:, metric]
    value = pooled(a.sum(0))[metric] - pooled(b.sum(0))[metric]
    return float(value), *(float(x) for x in np.nanpercentile(drawn, [2.5, 97.5]))


def heading(name: str, metric: int) -> str:
    return f"{name}\n{'E kcal/mol' if metric == 0 else 'F kcal/mol/Å'}"


def errors_table(found: dict[str, dict[str, Sums]]) -> Table:
    table = Table(title="RMSE of energies (E) and force components (F), with 95 % intervals over molecules")
    table.add_column("run")
    for name, metric in SHOWN:
        table.add_column(heading(name, metric), justify="right")
    for run, of in found.items():
        cells = []
        for name, metric in SHOWN:
            estimate = estimates(*of[name])[metric]
            interval = f" [{estimate.low:.2f}, {estimate.high:.2f}]" if "test" in name else ""
            cells.append(f"{estimate.value:.2f}{interval}")
        table.add_row(run, *cells)
    return table


def differences_table(found: dict[str, dict[str, Sums]], reference: str, runs: list[str]) -> Table:
    table = Table(title=f"RMSE less that of {reference}, with 95 % intervals of the paired difference")
    table.add_column("run")
    for name, metric in SHOWN:
        table.add_column(heading(name, metric), justify="right")
    for run in runs:
        cells = [difference(found[run][name], found[reference][name], metric) for name, metric in SHOWN]
        table.add_row(run, *(f"{value:+.2f} [{low:+.2f}, {high:+.2f}]" for value, low, high in cells))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path, help="folders of runs; all of runs/forms if none is named")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    runs = arguments.runs or sorted(path.parent for path in Path("runs/forms").glob("*/done"))
    if not runs:
        parser.error("no finished run in runs/forms; first: bash scripts/train_forms.sh")
    found = {run.name: scores(run) for run in track(runs, description="scoring", transient=True)}
    console = Console(width=180)
    console.print(errors_table(found))
    forms = [name for name in found if "-" not in name and name != "class1"]
    ablations = [name for name in found if name.startswith("class2-")]
    if "class1" in found and forms:
        console.print(differences_table(found, "class1", forms))
    if "class2" in found and ablations:
        console.print(differences_table(found, "class2", ablations))
    if arguments.json:
        figures = {
            run: {name: {m: vars(e) for m, e in zip(METRICS, estimates(*of[name]), strict=True)} for name in SETS}
            for run, of in found.items()
        }
        arguments.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
