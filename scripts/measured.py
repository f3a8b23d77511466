"""Writes what `scripts/measure_release.sh` measured into the pages: python scripts/measured.py [FOLDER]

Copies the plane to docs/plane.png and the HTML reports to docs/reports, and writes the tables of docs/landscape.md,
docs/check.md and, where FOLDER has bespoke.md, docs/bespoke.md.
"""

import argparse
import json
import re
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from espalike.files import write

ROOT = Path(__file__).parents[1]
GEOMETRIES = {
    "rmsd": "RMSD [Å]",
    "tfd": "TFD",
    "bonds": "bonds [Å]",
    "angles": "angles [°]",
    "torsions": "torsions [°]",
}
ELECTRIC = {"dipole": "dipole [D]", "ESP": "potential [kcal/mol/e]"}
TRIED = ("espalike-1", "espalike-2", "openff-2.3.0")
"""Force fields that `scripts/measure_release.sh` checks."""
SHOWN = 8
"""Molecules that failed which are named for each check."""


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """A table, without the columns that are empty."""
    kept = [i for i, cells in enumerate(zip(*rows, strict=True)) if set(cells) - {"–"}]
    lines = [[line[i] for i in kept] for line in (header, ["---"] * len(header), *rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(value: Any) -> str:
    """Three digits; a dash where there is none."""
    return "–" if value is None or value != value else f"{value:.3g}"


def landscape(result: dict[str, Any]) -> str:
    """Errors and costs of every method, then geometries and electrostatics."""
    rows = result["rows"]
    last = rows[-1]["source"]
    of = [row for row in rows if row["source"] == last]
    sizes = [key for key in of[0] if key.startswith("ms_")]
    wet = [key for key in of[0] if key.startswith("water_ms_")]
    header = ["", "energy RMSE [kcal/mol]", "force RMSE [kcal/mol/Å]", *(f"ms, {key[3:]} atoms" for key in sizes)]
    header += [*(f"ms, {int(key[9:]):,} atoms, water" for key in wet), "parameters [ms]"]
    lines = []
    for row in of:
        errors = [
            f"{number(row[key])} [{number(row[key + '_low'])}, {number(row[key + '_high'])}]"
            for key in ("energy_rmse", "force_rmse")
        ]
        setup = result["costs"].get(row["method"], {}).get("parametrize")
        lines.append([row["method"], *errors, *(number(row[key]) for key in sizes + wet), number(setup)])
    more = []
    for row in of:
        moved, electric = (result[name].get(row["method"], {}) for name in ("geometries", "electrostatics"))
        if moved or electric:
            cells = [*(moved.get(key) for key in GEOMETRIES), *(electric.get(key) for key in ELECTRIC)]
            more.append([row["method"], *map(number, cells)])
    text = f"{of[0]['molecules']} molecules, {of[0]['conformers']} geometries "
    text += f"([the whole report](reports/landscape.html)):\n\n{markdown(header, lines)}"
    if more:
        header = ["", *GEOMETRIES.values(), *ELECTRIC.values()]
        title = "Minimised geometries, and electrostatics" if result["geometries"] else "Electrostatics"
        text += f"\n\n{title}:\n\n{markdown(header, more)}"
    return text


def checks(folders: list[Path]) -> str:
    """A row per check, a column per force field: how many of the molecules failed, and which."""
    names, counts, failed = [], {}, {}
    for folder in folders:
        found = json.loads((folder / "findings.json").read_text())
        names.append(folder.name)
        counts[names[-1]] = Counter((one["check"], one["status"]) for one in found["findings"])
        failed[names[-1]] = [one for one in found["findings"] if one["status"] == "failed"]
    every = list(dict.fromkeys(check for name in names for check, _ in counts[name]))
    rows = []
    for check in every:
        cells = []
        for name in names:
            passed, bad = (counts[name][check, status] for status in ("passed", "failed"))
            cells.append(f"{bad} of {passed + bad}" if passed + bad else "–")
        rows.append([check, *cells])
    outside = {name: {check: n for (check, status), n in counts[name].items() if status == "outside"} for name in names}
    rows.append(["outside the domain", *(str(max(outside[name].values(), default=0)) for name in names)])
    text = markdown(["failed", *(f"`{name}`" for name in names)], rows)
    if absent := [f"`{name}`" for name in TRIED if name not in names]:
        text += f"\n\nNot tried yet: {', '.join(absent)}."
    for name in names:
        by_check: dict[str, list[str]] = {}
        for one in failed[name]:
            by_check.setdefault(one["check"], []).append(one["molecule"])
        text += f"\n\n`{name}` ([report](reports/check-{name}.html)): "
        if not by_check:
            text += "nothing failed."
        else:
            text += "; ".join(
                f"{check}: {', '.join(molecules[:SHOWN])}{' …' if len(molecules) > SHOWN else ''}"
                for check, molecules in by_check.items()
            )
            text += "."
    return text


def put(page: str, name: str, new: str) -> str:
    """The page with the part between the markers of `name` replaced.

    Raises:
        ValueError: when the page has no such markers.
    """
    start, end = f"<!-- measured: {name} -->\n", "<!-- end of measured -->"
    parts = re.split(f"({re.escape(start)}|{re.escape(end)})", page)
    if len(parts) != 5:
        raise ValueError(f"expected one part between {start.strip()} and {end.strip()}")
    return "".join([parts[0], parts[1], "\n", new, "\n\n", parts[3], parts[4]])


def reports(measured: Path, checked: list[Path], out: Path) -> None:
    """Replace the reports of the site; scripts/site.py lists them in the navigation."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    shutil.copyfile(measured / "landscape" / "report.html", out / "landscape.html")
    for folder in checked:
        shutil.copyfile(folder / "report.html", out / f"check-{folder.name}.html")


def main() -> int:
    """Write the pages."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "runs" / "measured")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs")
    arguments = parser.parse_args()
    docs = arguments.docs
    result = json.loads((arguments.folder / "landscape" / "landscape.json").read_text())
    shutil.copyfile(arguments.folder / "landscape" / "plane.png", docs / "plane.png")
    folders = sorted(path.parent for path in (arguments.folder / "check").glob("*/findings.json"))
    reports(arguments.folder, folders, docs / "reports")
    pages = {"landscape.md": landscape(result), "check.md": checks(folders)}
    if (bespoke := arguments.folder / "bespoke.md").exists():
        pages["bespoke.md"] = bespoke.read_text(encoding="utf-8").strip()
    for page, new in pages.items():
        write(docs / page, put((docs / page).read_text(encoding="utf-8"), page.partition(".")[0], new))
        print(f"wrote {docs / page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
