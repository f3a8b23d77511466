"""The report of a training run: one HTML page, without files beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch

from espalike import files
from espalike.batch import batch_of
from espalike.chem.molecule import Molecule
from espalike.chem.picture import drawing
from espalike.model import ForceFieldModel, load
from espalike.page import page, picture, plot, table
from espalike.tables import counted
from espalike.training.diagnosis import entries_of
from espalike.training.tables import read_rows

_MOLECULES = 500
"""Most molecules in the histograms of parameters."""
_Rows = list[dict[str, str]]


class WriteReport(pl.Callback):
    """Writes the report when training ends.

    Args:
        out: the run's folder.
    """

    def __init__(self, out: Path):
        self.out = out

    def on_fit_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Write the report, unless no model was written."""
        if trainer.is_global_zero and (self.out / "model.espalike").is_file():
            data = entries_of(trainer.train_dataloader)
            write_report(self.out, [data.molecule(i) for i in data.distinct()[:_MOLECULES]])


def write_report(out: Path, molecules: Sequence[Molecule]) -> Path:
    """Write `report.html` to the folder of a run.

    Args:
        out: the folder, with `model.espalike`, `metrics.csv`, `config.yaml`, and `worst.csv` if there is one.
        molecules: molecules for the histograms of parameters.

    Returns:
        The file.
    """
    model, metrics = load(out / "model.espalike"), read_rows(out / "metrics.csv")
    best = str(model.provenance.notes["epoch"]) if model.provenance else ""
    at_best = next((row for row in metrics if row["epoch"] == best), metrics[-1])
    diagnosed = any(name.startswith("val/term/") for name in metrics[0])
    worst = [row for row in read_rows(out / "worst.csv") if diagnosed and row["epoch"] == best]
    parts = [
        _summary(model, metrics, at_best),
        "<h2>Losses and errors</h2>" + _curves(metrics, _errors),
        "<h2>What each term contributes</h2>" + _terms(model, metrics, at_best),
        "<h2>Gradients by head</h2><p>Mean norm over an epoch, before clipping.</p>" + _curves(metrics, _gradients),
        f"<h2>Worst validation molecules of epoch {best}</h2>" + _cards(worst),
        "<h2>Parameters</h2>" + _histograms(model, molecules),
        f"<h2>Configuration</h2><pre>{escape((out / 'config.yaml').read_text(encoding='utf-8'))}</pre>",
    ]
    files.write(out / "report.html", page(str(out), parts))
    return out / "report.html"


def _number(text: str | None) -> str:
    return f"{float(text):.3f}" if text else "–"


def _summary(model: ForceFieldModel, metrics: _Rows, at_best: dict[str, str]) -> str:
    count = sum(p.numel() for p in model.parameters())
    sentence = (
        f"<p>{counted(len(metrics), 'epoch')}; the model is from epoch {escape(at_best['epoch'])}, the best on "
        f"validation. {count:,} weights; terms: {escape(', '.join(map(str, model.terms)))}.</p>"
    )
    sources = sorted({name.split("/")[1] for name in at_best if name.endswith("_rmse")})
    header = ("validation at that epoch", "energy RMSE [kcal/mol]", "force RMSE [kcal/mol/Å]")
    errors = [(s, *(_number(at_best.get(f"val/{s}/{q}_rmse")) for q in ("energy", "forces"))) for s in sources]
    return sentence + table(header, errors)


def _errors(names: list[str]) -> list[tuple[str, list[str]]]:
    return [
        ("loss", [n for n in names if n in ("train/loss", "val/loss")]),
        ("energy RMSE [kcal/mol]", [n for n in names if n.endswith("/energy_rmse")]),
        ("force RMSE [kcal/mol/Å]", [n for n in names if n.endswith("/forces_rmse")]),
        ("parts of the validation loss", [n for n in names if n.startswith("val/") and n.endswith("_loss")]),
    ]


def _contributions(names: list[str]) -> list[tuple[str, list[str]]]:
    return [
        ("energy, RMS [kcal/mol]", [n for n in names if n.startswith("val/term/") and n.endswith("/energy_rms")]),
        ("forces, RMS [kcal/mol/Å]", [n for n in names if n.startswith("val/term/") and n.endswith("/forces_rms")]),
    ]


def _gradients(names: list[str]) -> list[tuple[str, list[str]]]:
    return [("gradient norm", [n for n in names if n.startswith("train/grad/")])]


def _label(name: str) -> str:
    """The name of a column of `metrics.csv` in a legend."""
    for prefix in ("train/grad/", "val/term/"):
        name = name.removeprefix(prefix)
    for suffix in ("/energy_rmse", "/forces_rmse", "/energy_rms", "/forces_rms", "_loss"):
        name = name.removesuffix(suffix)
    return name


def _curves(metrics: _Rows, choose: Callable[[list[str]], list[tuple[str, list[str]]]]) -> str:
    """Plots of columns against epochs; `choose` returns panels (title, columns) from the names of all columns."""
    from matplotlib.figure import Figure

    panels = [(title, chosen) for title, chosen in choose(list(metrics[0])) if chosen]
    if not panels:
        return "<p>Not recorded: the run had diagnosis=false.</p>"
    figure = Figure(figsize=(11, 3.4 * math.ceil(len(panels) / 2)), layout="constrained")
    for position, (title, names) in enumerate(panels, start=1):
        axes = figure.add_subplot(math.ceil(len(panels) / 2), min(len(panels), 2), position)
        for name in names:
            pairs = [(int(row["epoch"]), float(row[name])) for row in metrics if row.get(name)]
            if any(value for _, value in pairs):  # a loss without labels is always zero
                axes.plot(*zip(*pairs, strict=True), label=_label(name), marker="." if len(pairs) < 20 else None)
        axes.set(xlabel="epoch", ylabel=title, yscale="log")
        axes.legend(fontsize=7)
    return plot(figure, "curves against epochs")


def _terms(model: ForceFieldModel, metrics: _Rows, at_best: dict[str, str]) -> str:
    header = ("validation", "energy, RMS [kcal/mol]", "forces, RMS [kcal/mol/Å]")
    rows = []
    for term in model.terms:
        figures = (at_best.get(f"val/term/{term.name}/{quantity}_rms") for quantity in ("energy", "forces"))
        rows.append((term.name, *map(_number, figures)))
    return table(header, rows) + _curves(metrics, _contributions)


def _cards(worst: _Rows) -> str:
    if not worst:
        return "<p>Not recorded.</p>"
    cards = []
    for row in worst:
        cards.append(
            f"<div class='card'>{picture(drawing(row['smiles']), row['smiles'])}<br><b>{escape(row['entry'])}</b><br>"
            f"{escape(row['smiles'])}<br>{escape(row['source'])}, {row['conformers']} conformers<br>"
            f"energy RMSE {_number(row['energy_rmse'])} kcal/mol<br>"
            f"force RMSE {_number(row['forces_rmse'])} kcal/mol/Å</div>"
        )
    return f"<div class='cards'>{''.join(cards)}</div>"


@torch.no_grad()
def _histograms(model: ForceFieldModel, molecules: Sequence[Molecule]) -> str:
    """Histograms of all parameters over molecules."""
    from matplotlib.figure import Figure

    system = model(batch_of(molecules, next(model.parameters()).dtype))
    panels = [
        (f"{b.term.name}\n{p.name} [{p.unit}]", b.values[:, column].double().numpy())
        for b in system.terms
        for column, p in enumerate(b.term.params)
        if len(b.values)
    ]
    figure = Figure(figsize=(11, 2.2 * math.ceil(len(panels) / 4)))
    figure.subplots_adjust(left=0.05, right=0.98, bottom=0.3 / math.ceil(len(panels) / 4), hspace=0.7)
    for position, (title, values) in enumerate(panels, start=1):
        axes = figure.add_subplot(math.ceil(len(panels) / 4), 4, position)
        axes.hist(values, bins=np.linspace(values.min(), values.max() + 1e-9, 41).tolist(), histtype="stepfilled")
        axes.set_title(title, fontsize=8)
        axes.tick_params(labelsize=7)
        axes.set_yscale("log")
        axes.minorticks_off()  # many ticks make drawing slow
        axes.locator_params(axis="x", nbins=4)
        axes.yaxis.set_major_formatter("{x:g}")
    return (
        f"<p>Of {counted(len(molecules), 'molecule')}; the vertical axis counts atoms, bonds, angles or torsions.</p>"
        + plot(figure, "histograms of parameters")
    )
