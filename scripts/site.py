"""Hooks of mkdocs: pages from files outside docs/, and text that the program prints.

A page may hold `<!-- prints: espalike train --help -->` or `<!-- prints: terms -->`: the site shows what that prints.
"""

import io
import os
import re
from contextlib import redirect_stdout
from importlib.resources import files as resources
from itertools import groupby
from pathlib import Path

import yaml
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
CARDS = sorted((ROOT / "espalike" / "models").glob("*.md"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
OUTSIDE = {f"models/{path.name}": path for path in CARDS}
OUTSIDE |= {f"notebooks/{path.name}": path for path in NOTEBOOKS}
REPORTS = sorted((ROOT / "docs" / "reports").glob("*.html"), reverse=True)
OUTSIDE |= {name: ROOT / name for name in ("CHANGELOG.md", "CONTRIBUTING.md")}
"""Pages of files that are not in docs/: name on the site -> file."""

LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")
PRINTS = re.compile(r"<!-- prints: (.+?) -->")


def on_config(config):
    """List the model cards, the lessons and the HTML reports in the navigation, whatever their number."""
    for section in config.nav:
        for title, pages in section.items():
            if title == "Lessons":
                pages.extend(f"notebooks/{path.name}" for path in NOTEBOOKS)
            if title == "Reports":
                pages.extend(
                    {path.stem.replace("-", " of ", 1).capitalize(): f"reports/{path.name}"} for path in REPORTS
                )
            if title == "Models":
                pages.extend(f"models/{path.name}" for path in CARDS)
    return config


@event_priority(100)  # before the plugin that turns notebooks into pages
def on_files(files, config):
    """Add the pages of files that are not in docs/."""
    for name, path in OUTSIDE.items():
        folder = str(path).removesuffix(name)
        files.append(File(name, folder, config.site_dir, config.use_directory_urls))
    return files


def on_page_markdown(markdown, page, config, files):
    """Links between files of the repository become links between pages; marked places get what the program prints."""
    source = OUTSIDE.get(page.file.src_uri, ROOT / "docs" / page.file.src_uri)
    parts = re.split(r"(^```.*?^```$)", markdown, flags=re.M | re.S)  # code is left as it is
    texts = [part if part.startswith("```") else _linked(part, source, page.file.src_uri) for part in parts]
    return PRINTS.sub(lambda match: _printed(match[1]), "".join(texts))


def _linked(text: str, source: Path, page: str) -> str:
    """Links of a file of the repository as links of its page; a link to a file without a page becomes plain text."""
    names = {path: name for name, path in OUTSIDE.items()}

    def replace(match: re.Match) -> str:
        image, label, target, anchor = match.groups()
        if "://" in target or target.startswith("mailto:"):
            return match[0]
        path = Path(os.path.normpath(source.parent / target))
        if path.is_relative_to(ROOT / "docs"):
            name = str(path.relative_to(ROOT / "docs"))
        elif path in names:
            name = names[path]
        elif path.exists() and not image:
            return label
        else:
            return match[0]  # mkdocs reports it
        return f"{image}[{label}]({os.path.relpath(name, Path(page).parent)}{anchor or ''})"

    return LINK.sub(replace, text)


def _printed(what: str) -> str:
    if what == "terms":
        return _terms()
    from espalike.cli.main import main

    text = io.StringIO()
    program, *arguments = what.split()
    with redirect_stdout(text):
        status = main(arguments)
    if program != "espalike" or status != 0:
        raise ValueError(
            f"<!-- prints: {what} -->: expected a command of espalike that succeeds; its status is {status}"
        )
    return f"```text\n{text.getvalue().rstrip()}\n```"


def _unit(unit: str) -> str:
    return unit.replace("angstrom", "Å").replace("radian", "rad").replace("**2", "²")


def _terms() -> str:
    """A table of the terms that settings can name: formula and source, parameters with their units."""
    from hydra.utils import get_class

    rows = ["| `term=` | acts on | energy and source | parameters |", "|---|---|---|---|"]
    for path in sorted((resources("espalike.configs") / "term").iterdir(), key=lambda path: path.name):
        for name, settings in yaml.safe_load(path.read_text()).items():
            term = get_class(settings["_target_"])
            formula = " ".join((term.__doc__ or "").partition("Args:")[0].split()).replace("|", "\\|")
            units = groupby(term.params, key=lambda p: p.unit)  # parameters of one unit stand together
            named = (f"{', '.join(p.name for p in group)} [{_unit(unit)}]" for unit, group in units)
            parameters = ", ".join(named).replace(" [1]", "")
            rows.append(f"| `{name}` | {term.kind.name.lower().replace('_', ' ')} | {formula} | {parameters} |")
    return "\n".join(rows)
