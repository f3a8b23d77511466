"""What `espalike bespoke` reaches: python benchmarks/bespoke.py [--teacher aimnet2] [--out runs/bespoke] [--json FILE]

Fits a force field to each of three drug-like molecules, one after the other, with default settings, and prints root
mean square errors before → after on held-out geometries, whether the fit was kept, and the time of the processor. A
fit that is in the folder is taken from there, with its times.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import espalike

MOLECULES = {
    "sulfamethoxazole": "Cc1cc(NS(=O)(=O)c2ccc(N)cc2)no1",
    "lidocaine": "CCN(CC)CC(=O)Nc1c(C)cccc1C",
    "celecoxib": "Cc1ccc(cc1)-c1cc(nn1-c1ccc(cc1)S(N)(=O)=O)C(F)(F)F",
}
COLUMNS = {
    "own scan": "own scans [kcal/mol]",
    "scan": "scans [kcal/mol]",
    "relaxed": "conformers [kcal/mol]",
    "thermal": "thermal forces [kcal/mol/Å]",
}


def row(name: str, report: dict[str, Any]) -> list[str]:
    """A line of the table from a report."""
    (molecule,) = report["molecules"]
    errors = {
        score["kind"]: score["forces" if score["kind"] == "thermal" else "energy"] for score in molecule["held_out"]
    }
    cells = [f"{errors[kind]['before']:.2f} → {errors[kind]['after']:.2f}" for kind in COLUMNS]
    labels = f"{report['labels']['fitted']} + {report['labels']['held out']}"
    kept = "yes" if report["kept"] == "fitted" else "no"
    return [name, str(molecule["atoms"]), labels, *cells, kept, f"{sum(report['seconds'].values()):.0f}"]


def main(arguments: list[str] | None = None) -> None:
    """Fit what is not there yet, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default="aimnet2")
    parser.add_argument("--out", default="runs/bespoke")
    parser.add_argument("--molecules", nargs="*", default=list(MOLECULES), choices=list(MOLECULES))
    parser.add_argument("--json")
    args = parser.parse_args(arguments)
    reports = {}
    for name in args.molecules:
        path = Path(args.out) / name / "report.json"
        if not path.is_file():
            molecule = espalike.Molecule.from_smiles(MOLECULES[name], name)
            espalike.bespoke(molecule, path.parent, teacher=args.teacher)
        reports[name] = json.loads(path.read_text(encoding="utf-8"))
    heads = ["molecule", "atoms", "labels", *COLUMNS.values(), "kept", "time [s]"]
    for cells in (heads, ["---"] * len(heads), *(row(name, report) for name, report in reports.items())):
        print(f"| {' | '.join(cells)} |")
    if args.json:
        Path(args.json).write_text(json.dumps(reports), encoding="utf-8")


if __name__ == "__main__":
    main()
