"""Densities and heats of vaporisation beside experiment and a reference: a table, a page, JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path

from espalike import files
from espalike.check.liquids import ALLOWED, PRESSURE, REFERENCE, TEMPERATURE, Protocol, Result, verdict
from espalike.page import page, table

QUANTITIES = {"density": ("density [g/mL]", 3), "heat": ("vaporisation [kcal/mol]", 2)}
"""Title and decimals of the two properties."""


def header(source: str) -> tuple[str, ...]:
    """The columns under which `rows` stands."""
    reference = () if source == REFERENCE else (REFERENCE, "verdict")
    return ("liquid", "property", "measured", source, *reference)


def rows(results: Sequence[Result], references: Sequence[Result]) -> list[tuple[str, ...]]:
    """A row per liquid and property.

    Args:
        results: with the force field.
        references: with the reference, in the same order; empty when the force field is the reference.
    """
    found = []
    for number, own in enumerate(results):
        for quantity, (title, digits) in QUANTITIES.items():
            row = [own.liquid.name, title, f"{getattr(own.liquid, quantity):.{digits}f}", _text(own, quantity, digits)]
            if references:
                row += [_text(references[number], quantity, digits), judge(own, references[number], quantity)]
            found.append(tuple(row))
    return found


def judge(own: Result, reference: Result, quantity: str) -> str:
    """`passed`, `failed` or `undecided`; failed also where the force field gives no value."""
    if own.message:
        return "failed"
    (mine, error), (other, other_error) = own.deviation(quantity), reference.deviation(quantity)
    return verdict(mine, other, ALLOWED[quantity], math.hypot(error, other_error))


def _text(result: Result, quantity: str, digits: int) -> str:
    if result.message:
        return "–"
    (value, error), (deviation, _) = getattr(result, quantity), result.deviation(quantity)
    return f"{value:.{digits}f} ± {error:.{digits}f} ({deviation:+.1f} %)"


def write(
    results: Sequence[Result], references: Sequence[Result], source: str, protocol: Protocol, out: Path
) -> list[Path]:
    """Write `liquids.html` and `liquids.json` to a folder that exists; see `rows`."""
    every = (*results, *references)
    body = [
        f"<p>{protocol.molecules} molecules, {protocol.picoseconds:g} ps, {TEMPERATURE} K, {PRESSURE} bar. Values with "
        "standard errors over ten blocks, and deviations from experiment.</p>",
        table(header(source), rows(results, references)),
        *(f"<p class='bad'>{escape(f'{r.liquid.name}, {r.field}: {r.message}')}</p>" for r in every if r.message),
    ]
    files.write(out / "liquids.html", page(f"Liquids with {source}", body))
    data = {"force_field": source, "protocol": asdict(protocol), "results": [asdict(r) for r in every]}
    files.write(out / "liquids.json", json.dumps(data, indent=1))
    return [out / "liquids.html", out / "liquids.json"]
