"""Put a trained model into the package, with its test figures and a card: the last step of scripts/train_small.sh.

python scripts/ship_model.py runs/small/model.espalike espalike-small runs/small/torsiondrives runs/small/thermal
"""

import argparse
import json
from pathlib import Path

from espalike.files import write
from espalike.model import load

MODELS = Path(__file__).parents[1] / "espalike" / "models"


def figures(folder: Path, label: str) -> list[dict]:
    """Rows of an evaluation on the entries of all methods: the model under its new name, and the baselines."""
    rows = json.loads((folder / "summary.json").read_text())["common"]
    return [{**row, "method": label if row["method"] == label_of(folder) else row["method"]} for row in rows]


def label_of(folder: Path) -> str:
    """Name of the model in the evaluation: the folder of its run."""
    return folder.parent.name


def interval(row: dict, metric: str) -> str:
    """A value with its interval, or a dash."""
    if row[metric] is None:
        return "–"
    return f"{row[metric]:.2f} [{row[metric + '_low']:.2f}, {row[metric + '_high']:.2f}]"


def card(name: str, provenance, tables: dict[str, list[dict]], remarks: list[str]) -> str:
    """The model card in Markdown: functional form, training data, test errors."""
    notes, domain = provenance.notes, provenance.domain
    lines = [
        f"# {name}",
        "",
        f"Functional form: {notes['forcefield']}. Levels of theory in training: "
        f"{', '.join(provenance.config['levels'])} (the first is the target).",
        f"Training molecules: {len(provenance.split['train'])}; atom environments: {len(domain.environments)}; "
        f"net charges {domain.charges[0]:+d} to {domain.charges[1]:+d}.",
        f"Best epoch by validation loss: {notes['epoch']}.",
        "",
        "| data | hash | licence |",
        "|---|---|---|",
        *(f"| {', '.join(s['sources'])} | `{s['hash'][:12]}` | {s['licence']} |" for s in provenance.data),
    ]
    for title, rows in tables.items():
        lines += [
            "",
            f"## Test split: {title}",
            "",
            f"{rows[0]['molecules']} molecules, {rows[0]['conformers']} conformers; 95 % intervals over molecules.",
            "",
            "| method | energy RMSE, kcal/mol | force RMSE, kcal/mol/Å |",
            "|---|---|---|",
            *(f"| {row['method']} | {interval(row, 'energy_rmse')} | {interval(row, 'force_rmse')} |" for row in rows),
        ]
    if remarks:
        lines += ["", "## Remarks", "", *(f"- {remark}" for remark in remarks)]
    return "\n".join([*lines, ""])


def main() -> None:
    """Copy the model and write its card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("name")
    parser.add_argument("evaluations", type=Path, nargs="+", help="folders that `espalike evaluate` wrote")
    parser.add_argument("--remark", action="append", default=[], help="a line for the card; can be repeated")
    args = parser.parse_args()
    model = load(args.model)
    tables = {folder.name: figures(folder, args.name) for folder in args.evaluations}
    assert model.provenance is not None
    model.provenance.figures["test"] = {
        title: {k: row[k] for k in ("molecules", "conformers", "energy_rmse", "force_rmse")}
        for title, rows in tables.items()
        for row in rows
        if row["method"] == args.name
    }
    MODELS.mkdir(exist_ok=True)
    model.save(MODELS / f"{args.name}.espalike")
    write(MODELS / f"{args.name}.md", card(args.name, model.provenance, tables, args.remark))
    print(f"wrote {MODELS / args.name}.espalike and .md")


if __name__ == "__main__":
    main()
