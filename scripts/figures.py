"""Writes the test errors of the released models into README.md and docs/models.md: python scripts/figures.py

They come from the cards that `scripts/ship_model.py` wrote. `--check` writes nothing; its exit status says whether the
pages agree with the cards.
"""

import argparse
import re
import sys
from pathlib import Path

from espalike.files import write

ROOT = Path(__file__).parents[1]
MODELS = ("espalike-1", "espalike-2")
COLUMNS = {"td": "torsion drives", "sample": "embedded set", "hutchison": "Hutchison", "pepconf": "PEPCONF"}
COLUMNS["complexes"] = "complexes"
"""Test split of a card -> column of the tables."""
NAMES = {"openff": "OpenFF", "mmff94": "MMFF94", "gfn2-xtb": "GFN2-xTB", "aimnet2": "AIMNet2, the teacher"}
KINDS = "relaxed, thermal and distorted geometries, scans"


def card(text: str) -> dict[str, tuple[str, dict[str, list[str]]]]:
    """Test splits of a card: number of molecules or complexes, and the errors of each method."""
    splits = {}
    for name, section in re.findall(r"^## Test split: (\S+)\n(.*?)(?=^## |\Z)", text, re.M | re.S):
        rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in section.splitlines() if "|" in line]
        splits[name] = (section.split()[0], {row[0]: row[1:] for row in rows[2:]})
    return splits


def named(method: str) -> str:
    """A method as tables call it: models as code, force fields by their proper names."""
    if method.startswith("openff-"):
        return method.replace("openff-", f"{NAMES['openff']} ")
    return NAMES.get(method, f"`{method}`")


def table(splits: dict, columns: list[str], first: str, cell) -> str:
    """A Markdown table of these test splits; `cell` makes text of the errors of a method, or of None."""
    methods = list(dict.fromkeys(method for name in columns for method in splits[name][1]))
    head = [first, *(f"{COLUMNS[name]}, {splits[name][0]}" for name in columns)]
    lines = [head, ["---"] * len(head)]
    lines += [[named(m), *(cell(splits[name][1].get(m)) for name in columns)] for m in methods]
    return "\n".join("|" + "|".join(c if c == "---" else f" {c} " if c else " " for c in line) + "|" for line in lines)


def long(errors: list[str] | None) -> str:
    """Energy and force, both with intervals."""
    return " / ".join(errors) if errors else "–"


def short(errors: list[str] | None) -> str:
    """Energy, or interaction energy, with its interval, and force without."""
    if not errors:
        return "–"
    return " / ".join([errors[0], *(error.partition(" ")[0] for error in errors[1:] if error != "–")])


def tables() -> dict[str, str]:
    """The page of each table, and the table."""
    cards = [card((ROOT / "espalike" / "models" / f"{model}.md").read_text()) for model in MODELS]
    if cards[0] != cards[1]:
        raise ValueError("the cards of espalike-1 and espalike-2 differ: make both with the same evaluations")
    if missing := [name for name in COLUMNS if name not in cards[0]]:
        raise ValueError(f"the cards lack the test splits {', '.join(missing)}")
    first = "RMSE [95 % interval], energy kcal/mol / force kcal/mol/Å"
    readme = table(cards[0], ["td", "sample"], first, long)
    for name, what in (("td", "molecules"), ("sample", f"molecules: {KINDS}")):
        head = f"{COLUMNS[name]}, {cards[0][name][0]}"
        readme = readme.replace(head, f"{head} {what}", 1)
    return {"README.md": readme, "docs/models.md": table(cards[0], list(COLUMNS), "", short)}


def main() -> int:
    """Write the tables, or compare; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; status 1 if a page differs")
    check, differ = parser.parse_args().check, []
    for name, new in tables().items():
        page = (ROOT / name).read_text()
        parts = re.split(r"(<!-- figures: espalike/models -->\n\n|\n\n<!-- end of figures -->)", page)
        if len(parts) != 5:
            raise ValueError(f"{name}: expected one table between <!-- figures: … --> and <!-- end of figures -->")
        if parts[2] == new:
            continue
        differ.append(name)
        if not check:
            write(ROOT / name, "".join([*parts[:2], new, *parts[3:]]))
    print(f"{'differ from the cards' if check else 'written'}: {', '.join(differ) or 'none'}")
    return int(check and bool(differ))


if __name__ == "__main__":
    sys.exit(main())
