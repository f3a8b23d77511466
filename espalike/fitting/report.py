"""The report of a fit: `report.json`, and `report.html`, one page without files beside it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from html import escape
from importlib.metadata import version
from typing import Any

import numpy as np

from espalike import files
from espalike.chem.molecule import Molecule
from espalike.chem.picture import numbered
from espalike.export.text import symbols
from espalike.fitting.check import Moved, Profile, Score, moved
from espalike.fitting.result import Fitted
from espalike.model import ForceFieldModel
from espalike.page import page, picture, plot, table

_WHEN = ("before", "after")
KINDS = {
    "own scan": "torsion scans, relaxed on each model itself",
    "scan": "torsion scans, relaxed on the start model",
    "relaxed": "conformers",
    "thermal": "thermal frames",
}
"""What the kinds of held-out geometries are called."""


def write_report(run: Fitted, start: ForceFieldModel, fitted: ForceFieldModel) -> None:
    """Write `report.json` and `report.html` to the folder of a fit.

    Args:
        run: the fit, its check done and its files written.
        start: the model that the fit began at.
        fitted: the model that it gave.
    """
    with run.timed("files"):
        after = start if run.faults else fitted
        changes = {m.name: moved(start.parametrize(m), after.parametrize(m)) for m in run.molecules}
        parts = [_summary(run), *(_molecule(run, molecule, changes[molecule.name]) for molecule in run.molecules)]
        title = f"Force field of {', '.join(molecule.name for molecule in run.molecules)}"
        files.write(run.out / "report.html", page(title, parts))
    files.write(run.out / "report.json", json.dumps(_content(run, changes), indent=1, ensure_ascii=False) + "\n")


def _content(run: Fitted, changes: dict[str, list[Moved]]) -> dict[str, Any]:
    """The content of `report.json`."""
    return {
        "espalike": version("espalike"),
        "units": {"energy": "kcal/mol", "forces": "kcal/mol/Å", "angles": "degree", "seconds": "s of the processor"},
        "start": run.start,
        "teacher": run.teacher,
        "model": str(run.model),
        "kept": "start" if run.worse else "fitted",
        "worse": run.worse,
        "labels": {"fitted": run.fitted, "held out": run.held_out, "left out": dict(run.left_out)},
        "seconds": {stage: round(seconds, 1) for stage, seconds in run.seconds.items()},
        "failed": run.failed,
        "refused": run.refused,
        "molecules": [
            {
                "name": molecule.name,
                "smiles": molecule.smiles,
                "atoms": molecule.n_atoms,
                "notes": run.notes.get(molecule.name, []),
                "files": [file for result in run.results if result.name == molecule.name for file in result.files],
                "held_out": [_score(score) for score in _of(run.scores, molecule)],
                "profiles": [_profile(profile) for profile in _of(run.profiles, molecule)],
                "moved": [asdict(row) for row in changes[molecule.name]],
            }
            for molecule in run.molecules
        ],
    }


def _score(score: Score) -> dict[str, Any]:
    pairs = {"energy": score.energy, "forces": score.forces}
    errors = {what: {"before": round(a, 4), "after": round(b, 4)} for what, (a, b) in pairs.items()}
    return {"kind": score.kind, "geometries": score.geometries, **errors}


def _profile(profile: Profile) -> dict[str, Any]:
    arrays = {name: np.round(getattr(profile, name), 3).tolist() for name in ("angles", "teacher", "before", "after")}
    before, after = profile.errors
    errors = {"rmse_before": round(before, 4), "rmse_after": round(after, 4)}
    return {"torsion": list(profile.torsion), "geometries": profile.geometries, **errors, **arrays}


def _of(rows: Iterable[Any], molecule: Molecule) -> list[Any]:
    return [row for row in rows if row.molecule == molecule.name]


def _summary(run: Fitted) -> str:
    if run.worse:
        text = "".join(f"<li>{escape(line)}</li>" for line in run.worse)
        verdict = (
            "<p class='bad'><b>The fit was not kept.</b> It is worse on held-out geometries, so that the files hold "
            f"the parameters of {escape(run.start)}:</p><ul>{text}</ul>"
        )
    else:
        verdict = "<p class='good'>The fit was kept: nothing is worse on held-out geometries.</p>"
    failed = "".join(f"<p class='bad'>failed: {escape(f'{name}: {why}')}</p>" for name, why in run.failed.items())
    left_out = ", ".join(f"{count} {reason}" for reason, count in run.left_out.items())
    times = ", ".join(f"{stage} {seconds:.0f} s" for stage, seconds in run.seconds.items())
    return (
        f"{verdict}{failed}<p>{escape(run.start)}, fitted to {run.fitted} energies and forces of "
        f"{escape(run.teacher)}, and compared with {run.held_out} that are held out"
        f"{f' (left out: {escape(left_out)})' if left_out else ''}. Processor time: {times}.</p>"
    )


def _molecule(run: Fitted, molecule: Molecule, changes: Sequence[Moved]) -> str:
    """The part of the page on one molecule."""
    notes = "".join(f"<p>note: {escape(note)}</p>" for note in run.notes.get(molecule.name, []))
    rows = [
        (KINDS[score.kind], score.geometries, *(f"{error:.2f}" for error in (*score.energy, *score.forces)))
        for kind in KINDS
        for score in _of(run.scores, molecule)
        if score.kind == kind
    ]
    head = ("held-out geometries", "number", *(f"{what} {when}" for what in ("energy", "forces") for when in _WHEN))
    return (
        f"<h2>{escape(molecule.name)}</h2>{notes}<p>{picture(numbered(molecule), molecule.name)}</p>"
        "<p>Atoms are counted from 0. Root mean square errors in kcal/mol and kcal/mol/Å:</p>"
        f"{table(head, rows)}{_profiles(_of(run.profiles, molecule), molecule)}{_changes(changes, molecule)}"
    )


def _profiles(profiles: Sequence[Profile], molecule: Molecule) -> str:
    """Two curves per torsion: at geometries of the start model, and at those of the fitted one."""
    if not profiles:
        return "<p>It has no rotatable bond.</p>"
    figures = []
    for torsion in dict.fromkeys(profile.torsion for profile in profiles):
        both = [profile for profile in profiles if profile.torsion == torsion]
        label = "-".join(map(str, torsion))
        errors = "; ".join(
            f"on geometries of the {p.geometries} model {p.errors[0]:.2f} {_WHEN[0]}, {p.errors[1]:.2f} {_WHEN[1]}"
            for p in both
        )
        drawn = picture(numbered(molecule, (torsion[1], torsion[2]), 160, 120), f"the bond of torsion {label}")
        figures.append(
            f"<div class='card' style='width: 460px; max-width: 100%'>{_curves(both, label)}<br>{drawn}<br>"
            f"<b>torsion {label}</b>: {errors} [kcal/mol]</div>"
        )
    return f"<h3>Torsion profiles at held-out geometries</h3><div class='cards'>{''.join(figures)}</div>"


def _curves(profiles: Sequence[Profile], label: str) -> str:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 2.6), layout="constrained")
    panels = figure.subplots(1, len(profiles), sharey=True, squeeze=False)[0]
    for axes, profile in zip(panels, profiles, strict=True):
        lowest = profile.teacher.min()
        axes.plot(profile.angles, profile.teacher - lowest, "ko", markersize=3, label="teacher")
        axes.plot(profile.angles, profile.before - lowest, color="#c44", linewidth=1, label="before")
        axes.plot(profile.angles, profile.after - lowest, color="#27c", linewidth=1.5, label="after")
        axes.set_title(f"geometries of the {profile.geometries} model", fontsize=8)
        axes.set_xticks([-180, -90, 0, 90, 180])
        axes.tick_params(labelsize=8)
        axes.set_xlabel("angle [°]", fontsize=8)
    panels[0].set_ylabel("energy [kcal/mol]", fontsize=8)
    panels[0].legend(fontsize=7)
    return plot(figure, f"energy along torsion {label}")


def _changes(changes: Sequence[Moved], molecule: Molecule) -> str:
    """The parameters that changed most."""
    if not changes:
        return ""
    names = symbols(molecule)
    head = ("parameter", "atoms", "alike", *_WHEN, "unit", "change in spreads")
    rows = [
        (
            f"{row.term} {row.parameter}",
            " ".join(f"{names[i]}{i}" for i in row.atoms),
            row.tuples,
            f"{row.before:.4g}",
            f"{row.after:.4g}",
            row.unit,
            f"{row.spreads:.2f}",
        )
        for row in changes
    ]
    return f"<h3>What moved most</h3>{table(head, rows)}"
