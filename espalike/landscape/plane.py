"""The plane: error against cost, every method labelled, with the Pareto front."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot
from pathlib import Path
from typing import TYPE_CHECKING

from espalike.files import replacing
from espalike.landscape.cost import FORCE_FIELD, HYBRID, MIDDLE, ML, QM, SEMI_EMPIRICAL

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

_MARKS = {
    FORCE_FIELD: ("o", "#2166ac"),
    SEMI_EMPIRICAL: ("s", "#7f7f7f"),
    HYBRID: ("P", "#762a83"),
    ML: ("D", "#b2182b"),
    QM: ("^", "#222222"),
}
AXES = {"force_rmse": "force RMSE [kcal/mol/Å]", "energy_rmse": "energy RMSE [kcal/mol]"}
"""Labels of the metrics that the plane can show."""


@dataclass(frozen=True)
class Point:
    """A method on the plane.

    Attributes:
        method: its name.
        kind: see `espalike.landscape.cost.Cost`.
        ms: milliseconds per energy and forces.
        error: the metric, with its 95 % interval `low` to `high`; not a number where unknown.
    """

    method: str
    kind: str
    ms: float
    error: float
    low: float
    high: float


def front(points: Sequence[Point]) -> list[Point]:
    """The Pareto front: points with a smaller error than all cheaper ones, by increasing cost."""
    best: list[Point] = []
    for point in sorted(points, key=lambda p: (p.ms, p.error)):
        if not best or point.error < best[-1].error:
            best.append(point)
    return best


def draw(points: Sequence[Point], metric: str, title: str) -> Figure:
    """The plane on white paper, so that it is legible on light and dark pages.

    Args:
        points: the methods.
        metric: key of `AXES`.
        title: what was scored.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.8), layout="constrained", dpi=150)
    axes = figure.subplots()
    for kind, (marker, colour) in _MARKS.items():
        chosen = [point for point in points if point.kind == kind]
        if chosen:
            x, y = [p.ms for p in chosen], [p.error for p in chosen]
            bars = [[max(0.0, p.error - p.low) for p in chosen], [max(0.0, p.high - p.error) for p in chosen]]
            axes.errorbar(x, y, bars, fmt=marker, color=colour, capsize=3, markersize=7, label=kind, linewidth=1)
    line = front(points)
    axes.plot([p.ms for p in line], [p.error for p in line], "--", color="#999999", linewidth=1, zorder=0)
    top = max((point.error for point in points), default=1.0)
    axes.set(xscale="log", xlabel=f"cost of energy and forces, {MIDDLE} atoms, one thread [ms]", ylabel=AXES[metric])
    axes.set_ylim(min(0.0, -0.02 * top), None)
    axes.margins(x=0.18)
    axes.grid(alpha=0.25, which="major")
    axes.set_title(title, fontsize=10)
    axes.legend(fontsize=9, frameon=False)
    _name(figure, axes, points)
    return figure


_PLACES = ((7, 6, "left"), (7, -13, "left"), (-7, 6, "right"), (-7, -13, "right"), (7, 17, "left"), (-7, 17, "right"))
"""Places of a method's name beside its point, the best first: right and up [points], and which end is at the point."""


def _name(figure: Figure, axes: Axes, points: Sequence[Point]) -> None:
    """Write each method's name in the first place inside the axes that covers no other and is nearest to its point."""
    figure.draw_without_rendering()  # places in pixels are known only then
    taken: list[Bbox] = []
    marks = {point.method: axes.transData.transform((point.ms, point.error)) for point in points}
    for point in sorted(points, key=lambda p: p.ms):
        for number, (right, up, end) in enumerate([*_PLACES, _PLACES[0]]):
            text = axes.annotate(
                point.method, (point.ms, point.error), (right, up), textcoords="offset points", ha=end, fontsize=9
            )
            box = text.get_window_extent()
            inside = (
                axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1 and axes.bbox.y0 <= box.y0 <= box.y1 <= axes.bbox.y1
            )
            nearest = min(marks, key=lambda method: _apart(box, marks[method])) == point.method
            free = inside and nearest and not any(box.overlaps(other) for other in taken)
            if number == len(_PLACES) or free:
                taken.append(box)
                break
            text.remove()


def _apart(box: Bbox, mark: np.ndarray) -> float:
    """Distance of a point from a box [pixels]."""
    x, y = mark
    return hypot(max(box.x0 - x, 0.0, x - box.x1), max(box.y0 - y, 0.0, y - box.y1))


def write(figure: Figure, out: Path) -> list[Path]:
    """Write `plane.png` and `plane.svg` to a folder."""
    paths = [out / "plane.png", out / "plane.svg"]
    for path in paths:
        with replacing(path) as temporary:
            figure.savefig(temporary, format=path.suffix[1:], facecolor="white")
    return paths
