"""Put a trained model into the package, with its test figures and a card: the last step of scripts/train_small.sh.

python scripts/ship_model.py runs/small/model.espalike espalike-small runs/small/torsiondrives runs/small/thermal
"""

import argparse
import json
from pathlib import Path

from espalike.files import write
from espalike.model import ForceFieldModel, load

MODELS = Path(__file__).parents[1] / "espalike" / "models"
DISTANCE = "at least 0.95"
"""Geometries of complexes that count, relative to the equilibrium distance."""
FIGURES = ("molecules", "conformers", "energy_rmse", "force_rmse", "complexes", "points", "mae")
"""Test errors that the model file has."""


def rows_of(folder: Path, part: str, run: str, label: str) -> list[dict]:
    """Rows of an evaluation, the model's under its new name.

    Args:
        folder: what `espalike evaluate` wrote.
        part: `common`, the entries of all methods, or `interactions`.
        run: name of the model in the evaluation: the folder of its run.
        label: its new name.
    """
    rows = json.loads((folder / "summary.json").read_text())[part]
    return [{**row, "method": label if row["method"] == run else row["method"]} for row in rows]


def interval(row: dict, metric: str) -> str:
    """A value with its interval, or a dash."""
    if row[metric] is None:
        return "–"
    return f"{row[metric]:.2f} [{row[metric + '_low']:.2f}, {row[metric + '_high']:.2f}]"


def conformers(title: str, rows: list[dict]) -> list[str]:
    """The section of errors of energies and forces."""
    return [
        "",
        f"## Test split: {title}",
        "",
        f"{rows[0]['molecules']} molecules, {rows[0]['conformers']} conformers; 95 % intervals over molecules.",
        "",
        "| method | energy RMSE, kcal/mol | force RMSE, kcal/mol/Å |",
        "|---|---|---|",
        *(f"| {row['method']} | {interval(row, 'energy_rmse')} | {interval(row, 'force_rmse')} |" for row in rows),
    ]


def complexes(title: str, rows: list[dict], known: int) -> list[str]:
    """The section of errors of interaction energies; `known` complexes have no new molecule."""
    remark = (
        f" All molecules of {known} complexes of this split are in complexes that the model was trained on: for new "
        "molecules, expect larger errors."
    )
    return [
        "",
        f"## Test split: {title}",
        "",
        f"{rows[0]['complexes']} complexes, {rows[0]['points']} geometries at {DISTANCE[9:]} of the equilibrium "
        f"distance or more; 95 % intervals over complexes.{remark if known else ''}",
        "",
        "| method | interaction energy MAE, kcal/mol |",
        "|---|---|",
        *(f"| {row['method']} | {interval(row, 'mae')} |" for row in rows),
    ]


def card(name: str, provenance, sections: list[str], remarks: list[str]) -> str:
    """The model card in Markdown: functional form, training data, test errors."""
    notes, domain = provenance.notes, provenance.domain
    members = notes.get("members")
    made = f"Mean of {len(members)} networks." if members else f"Best epoch by validation loss: {notes['epoch']}."
    lines = [
        f"# {name}",
        "",
        f"Functional form: {notes['forcefield']}. Levels of theory in training: "
        f"{', '.join(provenance.config['levels'])} (the first is the target).",
        f"Training molecules: {len(provenance.split['train'])}; atom environments: {len(domain.environments)}; "
        f"net charges {domain.charges[0]:+d} to {domain.charges[1]:+d}.",
        made,
        "",
        "| data | hash | licence |",
        "|---|---|---|",
        *(f"| {', '.join(s['sources'])} | `{s['hash'][:12]}` | {s['licence']} |" for s in provenance.data),
        *sections,
    ]
    if remarks:
        lines += ["", "## Remarks", "", *(f"- {remark}" for remark in remarks)]
    return "\n".join([*lines, ""])


def halve_shifts(model: ForceFieldModel) -> None:
    """Store weights of level shifts, which only `espalike evaluate level=` uses, in half precision: smaller files."""
    for name, module in model.named_modules():
        if name.endswith(".shift"):
            module.half()


def main() -> None:
    """Copy the model and write its card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("name")
    parser.add_argument("evaluations", type=Path, nargs="+", help="folders that `espalike evaluate` wrote")
    parser.add_argument("--remark", action="append", default=[], help="a line for the card; can be repeated")
    args = parser.parse_args()
    model = load(args.model)
    assert model.provenance is not None
    sections, test = [], {}
    for folder in args.evaluations:
        of = (args.model.parent.name, args.name)
        if rows := rows_of(folder, "common", *of):
            sections += conformers(folder.name, rows)
        between = rows_of(folder, "interactions", *of)
        if between := [row for row in between if (row["name"], row["distance"]) == ("all", DISTANCE)]:
            seen = json.loads((folder / "summary.json").read_text())["complexes_of_molecules_seen_in_complexes"]
            sections += complexes(folder.name, between, seen[of[0]])
        own = {key: value for row in (*rows, *between) if row["method"] == args.name for key, value in row.items()}
        test[folder.name] = {key: own[key] for key in FIGURES if own.get(key) is not None}
    model.provenance.figures["test"] = test
    MODELS.mkdir(exist_ok=True)
    halve_shifts(model)
    model.save(MODELS / f"{args.name}.espalike")
    write(MODELS / f"{args.name}.md", card(args.name, model.provenance, sections, args.remark))
    print(f"wrote {MODELS / args.name}.espalike and .md")


if __name__ == "__main__":
    main()
