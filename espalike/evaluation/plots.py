"""Pictures of predictions against references."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from espalike.evaluation.metrics import Panel
from espalike.files import replacing

_LABELS = {
    "energy": ("relative energy", "kcal/mol"),
    "force": ("force component", "kcal/mol/Å"),
}


def parity(panels: Mapping[str, tuple[Panel, Panel]], path: str | os.PathLike) -> None:
    """Write energy (top) and force (bottom) parity panels, one column per method, with shared axes and the RMSE.

    Args:
        panels: by method, (reference, predicted) of centred energies [kcal/mol] and of force components [kcal/mol/Å].
        path: PNG to write.
    """
    kinds = [kind for i, kind in enumerate(_LABELS) if any(len(p[i][0]) for p in panels.values())]
    figure = Figure(figsize=(0.6 + 2.9 * len(panels), 0.5 + 2.9 * len(kinds)), layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(kinds), len(panels), squeeze=False, sharex="row", sharey="row")
    for line, kind in zip(axes, kinds, strict=True):
        which = list(_LABELS).index(kind)
        limits = _limits([panel[which] for panel in panels.values()])
        for ax, (method, panel) in zip(line, panels.items(), strict=True):
            _panel(ax, *panel[which], limits)
            if ax in axes[0]:
                ax.set_title(method, fontsize=10)
        name, unit = _LABELS[kind]
        line[0].set_ylabel(f"predicted {name}\n[{unit}]", fontsize=9)
        for ax in line:
            ax.set_xlabel(f"QM {name} [{unit}]", fontsize=9)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")


def _limits(panels: list[Panel]) -> tuple[float, float]:
    """Range of the references, and of 99.9 % of the predictions of each method."""
    values = [reference for reference, _ in panels]
    values += [np.quantile(predicted, [0.0005, 0.9995]) for _, predicted in panels if len(predicted)]
    low, high = (float(f(np.concatenate(values))) for f in (np.min, np.max))
    margin = 0.03 * max(high - low, 1e-6)
    return low - margin, high + margin


def _panel(ax, reference: np.ndarray, predicted: np.ndarray, limits: tuple[float, float]) -> None:
    ax.plot(limits, limits, color="0.6", linewidth=0.8, zorder=0)
    ax.set(xlim=limits, ylim=limits, aspect="equal", box_aspect=1)
    ax.tick_params(labelsize=8)
    if not len(reference):
        ax.text(0.5, 0.5, "no reference", ha="center", transform=ax.transAxes, fontsize=9)
        return
    shown = np.clip(predicted, *limits)  # values outside are drawn on the edge
    ax.hexbin(
        reference, shown, gridsize=60, extent=(*limits, *limits), mincnt=1, norm=LogNorm(), cmap="viridis", linewidths=0
    )
    rmse = float(np.sqrt(np.mean((predicted - reference) ** 2)))
    ax.text(0.04, 0.95, f"RMSE {rmse:.2f}", va="top", transform=ax.transAxes, fontsize=9)
