"""The speed-accuracy plane of trained forms: python benchmarks/plane.py FORMS.json MD_STEP.json FIGURE.png

`benchmarks/forms.py --json` writes FORMS.json and `benchmarks/md_step.py --json` writes MD_STEP.json. Baselines of an
`espalike evaluate` (--baselines SUMMARY.json) are dashed lines, or points if the cost of their step is known.
"""

import argparse
import json
from pathlib import Path

from matplotlib.figure import Figure

BASE = "openff-2.2.1"
SET, METRIC = "DFT test", "force_rmse"


def costs(path: Path, place: str) -> dict[str, float]:
    """Cost of a step relative to OpenFF 2.2.1: in gas the geometric mean over molecules, in water that of the box."""
    result = json.loads(path.read_text())
    tables = list(result["gas"].values()) if place == "gas" else [result["solvated"]]
    names = [name for name in result["forms"] if all(name in table for table in tables)]
    ratios = {}
    for name in names:
        product = 1.0
        for table in tables:
            product *= table[name][f"/{BASE}"]
        ratios[name] = product ** (1.0 / len(tables))
    return ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("forms", type=Path)
    parser.add_argument("md_step", type=Path)
    parser.add_argument("figure", type=Path)
    parser.add_argument("--baselines", type=Path, help="summary.json of an evaluation on the same test set")
    arguments = parser.parse_args()
    forms = json.loads(arguments.forms.read_text())
    lines = {}
    if arguments.baselines:
        summary = json.loads(arguments.baselines.read_text())
        known = summary["settings"]["baselines"]
        lines = {row["method"]: row[METRIC] for row in summary["common"] if row["method"] in known}
    drawing = Figure(figsize=(11, 4.5), layout="constrained")
    panels = drawing.subplots(1, 2, sharey=True)
    titles = {"gas": "gas phase, one molecule", "water": "ligand in water, 3,000 atoms, PME"}
    for axes, (place, title) in zip(panels, titles.items(), strict=True):
        cost = costs(arguments.md_step, place)
        for name, x in cost.items():
            if name in forms:
                of = forms[name][SET][METRIC]
                error = [[of["value"] - of["low"]], [of["high"] - of["value"]]]
                axes.errorbar(x, of["value"], error, fmt="o", capsize=3, label=name)
            elif name in lines:
                axes.plot(x, lines[name], "ks", label=name)
        for name, value in lines.items():
            if name not in cost:
                axes.axhline(value, color="0.5", linestyle="--", linewidth=0.8)
                axes.annotate(name, (0.01, value), xycoords=("axes fraction", "data"), fontsize=8, va="bottom")
        axes.set(title=title, xlabel="CPU cost of an OpenMM step / OpenFF 2.2.1")
        axes.margins(0.15)
    panels[0].set(xscale="log", xticks=[1, 2, 5, 10], xticklabels=["1", "2", "5", "10"])
    panels[1].legend()
    panels[0].set(ylabel="force RMSE on thermal DFT frames\nof held-out molecules [kcal/mol/Å]", ylim=(0, None))
    drawing.savefig(arguments.figure, dpi=130)
    print(f"wrote {arguments.figure}")


if __name__ == "__main__":
    main()
