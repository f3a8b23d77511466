"""One self-contained HTML page: tables that sort, pictures, light and dark, readable on a phone."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE = """
:root { color-scheme: light dark; --line: #ccc; --soft: #666; --paper: #fff; --ink: #222;
  --bad: #b3261e; --good: #1b7f3b }
@media (prefers-color-scheme: dark) {
  :root { --line: #444; --soft: #aaa; --paper: #16181c; --ink: #e4e4e4; --bad: #ff8a80; --good: #7bd88f } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 1.5em auto; padding: 0 1em;
  background: var(--paper); color: var(--ink) }
h1 { font-size: 1.5em } h2 { font-size: 1.15em; margin-top: 2em; border-bottom: 1px solid var(--line) }
.wide, pre { overflow-x: auto } table { border-collapse: collapse }
td, th { padding: .2em .9em .2em 0; text-align: right; font-weight: normal; vertical-align: top }
td:first-child, th:first-child { text-align: left }
th { color: var(--soft); cursor: pointer } th::after { content: " ↕" }
tr + tr { border-top: 1px solid var(--line) } .bad { color: var(--bad) } .good { color: var(--good) }
.cards { display: flex; flex-wrap: wrap; gap: 1em } .card { width: 230px; font-size: 13px; overflow-wrap: anywhere }
.card img, img.plot { background: #fff; border-radius: 6px } img { max-width: 100% }
"""
_SORT = """
document.querySelectorAll("th").forEach(head => head.onclick = () => {
  const table = head.closest("table"), place = [...head.parentNode.children].indexOf(head);
  const rows = [...table.rows].slice(1), down = head.dataset.down !== "yes";
  const value = row => { const text = row.cells[place].innerText, number = parseFloat(text);
    return isNaN(number) ? text : number };
  rows.sort((a, b) => { const x = value(a), y = value(b);
    return (typeof x === typeof y ? (x > y) - (x < y) : typeof x === "number" ? -1 : 1) * (down ? 1 : -1) });
  head.dataset.down = down ? "yes" : "no";
  rows.forEach(row => table.tBodies[0].append(row));
});
"""


def page(title: str, parts: Iterable[str]) -> str:
    """A whole page.

    Args:
        title: of the page and its first heading, plain text.
        parts: pieces of HTML in order.
    """
    return (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{escape(title)}</title>"
        f"<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>{''.join(parts)}"
        f"<script>{_SORT}</script></body></html>\n"
    )


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table whose columns sort when their heads are clicked; cells are plain text."""

    def line(tag: str, cells: Sequence[object]) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(str(cell))}</{tag}>" for cell in cells) + "</tr>"

    body = "".join(line("td", row) for row in rows)
    return f"<div class='wide'><table><tbody>{line('th', header)}{body}</tbody></table></div>"


def picture(svg: str, text: str) -> str:
    """An SVG as an image; `text` describes it."""
    data = quote(" ".join(svg.split()), safe=" '/:;,.=()-")  # a fifth smaller than base64
    return f'<img alt="{escape(text)}" src="data:image/svg+xml,{data}">'


def plot(figure: Figure, text: str) -> str:
    """A figure of matplotlib as an image; `text` describes it."""
    file = io.StringIO()
    figure.savefig(file, format="svg")
    return picture(file.getvalue(), text).replace("<img ", "<img class='plot' ", 1)
