"""Findings as a table, as JSON and as a page with the molecules that failed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from statistics import median

from rdkit import Chem
from rdkit.Chem.Draw import rdMolDraw2D

from espalike import files
from espalike.check.run import CHECKS, COST, PARAMETRIZED, Finding, Outcome
from espalike.chem.molecule import Molecule, to_rdkit
from espalike.page import page, picture, table
from espalike.tables import counted

HEADER = ("check", "what must hold", "passed", "failed", "not applicable", "median", "largest")
_WHAT = {PARAMETRIZED: "The molecule gets parameters.", COST: "The time of a parametrization grows with the atoms."}
_CARDS = 60


def rows(outcome: Outcome) -> list[tuple[str, str, int, int, int, str, str]]:
    """A row per check, under `HEADER`; the last two columns are about the size of what the check measured."""
    counts = Counter((finding.check, finding.status) for finding in outcome.findings)
    result = []
    for name in (PARAMETRIZED, *CHECKS, COST):
        what = _WHAT.get(name) or (CHECKS[name].__doc__ or "").partition("\n")[0]
        passed, failed, other = (counts[name, status] for status in ("passed", "failed", "not applicable"))
        if passed + failed + other:
            result.append((name, what, passed, failed, other, *_sizes(outcome, name)))
    return result


def _sizes(outcome: Outcome, check: str) -> tuple[str, str]:
    """Median and largest size of the values of a check, the latter with its molecule."""
    sizes = [(abs(one.value), one.molecule) for one in outcome.findings if one.check == check and one.value is not None]
    if not sizes:
        return "", ""
    largest, molecule = max(sizes)
    return f"{median(size for size, _ in sizes):.3g}", f"{largest:.3g} {molecule}"


def write(outcome: Outcome, source: str, out: Path) -> list[Path]:
    """Write `report.html` and `findings.json` to a folder.

    Args:
        outcome: the findings.
        source: the force field that was checked.
        out: the folder, which exists.
    """
    body = [
        f"<p>{_summary(outcome)}</p>",
        table(HEADER, rows(outcome)),
        "<h2>What failed</h2>",
        _cards(outcome.failed),
        *(
            [f"<p>{len(outcome.failed) - _CARDS} more are in findings.json.</p>"]
            if len(outcome.failed) > _CARDS
            else []
        ),
    ]
    outside = [finding for finding in outcome.findings if finding.status == "outside"]
    if outside:
        body += [
            "<h2>Outside the model's domain</h2>",
            table(("molecule", "why"), [(f.molecule, f.message) for f in outside]),
        ]
    files.write(out / "report.html", page(f"Check of {source}", body))
    data = {"force_field": source, "unread": outcome.unread, "findings": [asdict(one) for one in outcome.findings]}
    files.write(out / "findings.json", json.dumps(data, indent=1))
    return [out / "report.html", out / "findings.json"]


def _summary(outcome: Outcome) -> str:
    molecules = {finding.smiles for finding in outcome.findings if finding.check != COST}
    bad = {finding.smiles for finding in outcome.failed}
    faults = f"{counted(len(outcome.failed), 'fault')} in {counted(len(bad), 'molecule')}"
    return f"{counted(len(molecules), 'molecule')}; {faults}."


def _cards(failed: Sequence[Finding]) -> str:
    if not failed:
        return "<p class='good'>Nothing.</p>"
    cards = (
        f"<div class='card'>{picture(_drawing(one), one.molecule)}<br><b>{escape(one.molecule)}</b><br>"
        f"<span class='bad'>{escape(one.check)}</span>: {escape(one.message[:300])}</div>"
        for one in failed[:_CARDS]
    )
    return f"<div class='cards'>{''.join(cards)}</div>"


def _drawing(finding: Finding) -> str:
    """The structural formula with the finding's atoms marked; hydrogens are drawn only where they are marked."""
    mol = to_rdkit(Molecule.from_smiles(finding.smiles, finding.molecule))
    for atom in mol.GetAtoms():
        atom.SetAtomMapNum(0)
        atom.SetIntProp("number", atom.GetIdx())
    if not any(mol.GetAtomWithIdx(i).GetAtomicNum() == 1 for i in finding.atoms):
        mol = Chem.RemoveHs(mol)
    marked = [atom.GetIdx() for atom in mol.GetAtoms() if atom.GetIntProp("number") in finding.atoms]
    drawer = rdMolDraw2D.MolDraw2DSVG(230, 170)
    rdMolDraw2D.PrepareAndDrawMolecule(drawer, mol, highlightAtoms=marked)
    drawer.FinishDrawing()
    return drawer.GetDrawingText()
