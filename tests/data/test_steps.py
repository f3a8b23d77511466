"""Audit of steps: energies that are rounded, or totals in single precision."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from espalike.cli.main import main
from espalike.data import steps
from espalike.data.audit import Audit
from espalike.data.store import Store
from espalike.units import HARTREE, factor

EV = factor("eV")

ROUNDED = {
    "a tenth of an eV": (lambda e: np.round(e / EV, 1) * EV, 0.1 * EV, "failed"),
    "three decimals of hartree": (lambda e: np.round(e / HARTREE, 3) * HARTREE, 1e-3 * HARTREE, "failed"),
    "single precision near 3000 hartree": (
        lambda e: (e / HARTREE - 3000.0).astype(np.float32).astype(np.float64) * HARTREE, 2.0**-12 * HARTREE, "warning"
    ),
    "single precision near 200 hartree": (
        lambda e: (e / HARTREE - 200.0).astype(np.float32).astype(np.float64) * HARTREE, None, None
    ),
    "two decimals of kcal/mol": (lambda e: np.round(e, 2), None, None),
    "double precision": (lambda e: e - 3000.0 * HARTREE, None, None),
}  # fmt: skip


def entries(rounded, number=30):
    rng, found = np.random.default_rng(1), []
    for _ in range(number):
        steps.add(found, rounded(rng.normal(0.0, 10.0, 12)))
    return found


@pytest.mark.parametrize("name", ROUNDED)
def test_rounded_energies_are_told_by_their_step(name):
    rounded, size, outcome = ROUNDED[name]
    found = entries(rounded)
    assert len(found) == 30
    if outcome is None:
        assert steps.judge(found) is None
        return
    assert np.median(found) == pytest.approx(size, rel=1e-4)
    verdict, message = steps.judge(found)
    assert (verdict, f"rounded to steps of {size:.2g} kcal/mol" in message) == (outcome, True)


@given(st.lists(st.floats(-1e3, 1e3), min_size=4, max_size=30, unique=True), st.floats(-2e6, 0.0))
def test_energies_with_a_small_difference_have_no_step(energies, zero):
    energies = np.array([*energies, energies[0] + 0.013]) + zero
    found = []
    steps.add(found, energies)
    assert found in ([0.0], [])


def test_too_few_energies_tell_no_step():
    found = []
    steps.add(found, np.array([0.0, 1.0, 2.0, 2.0, 1.0]))
    assert (found, steps.judge(found)) == ([], None)


def test_half_of_the_entries_may_be_coarse():
    fine = entries(ROUNDED["double precision"][0], 10)
    assert steps.judge(fine + entries(ROUNDED["a tenth of an eV"][0], 10)) is None
    assert steps.judge(fine + entries(ROUNDED["a tenth of an eV"][0], 11))[0] == "failed"


def test_the_audit_refuses_them_and_right_data_pass():
    right, wrong = Audit(), Audit()
    for record in Store.open("sample-aimnet2").records():
        conf = record.conformers
        right.add(record)
        wrong.add(replace(record, conformers=replace(conf, energy=np.round(conf.energy / EV, 1) * EV)))
    assert "steps" not in {verdict.audit for verdict in right.verdicts()}
    found = [v for v in Audit(wrong.state()).verdicts() if v.audit == "steps"]
    assert len(found) == 3  # conformers, scans, thermal frames
    assert all(v.outcome == "failed" and "steps of 2.3 kcal/mol" in v.message for v in found)


def test_an_extended_xyz_of_rounded_energies_is_not_ingested(tmp_path, capsys):
    rng, lines = np.random.default_rng(2), []
    for _ in range(6):
        xyz = np.array([[0.0, 0.0, 0.0], [0.0, 0.76, 0.59], [0.0, -0.76, 0.59]]) + rng.normal(0.0, 0.03, (3, 3))
        lines += [
            "3",
            f'Properties=species:S:1:pos:R:3 smiles="O" energy={-2081.1 + rng.normal(0.0, 0.5):.1f} pbc="F F F"',
        ]
        lines += [f"{s} {x:.5f} {y:.5f} {z:.5f}" for s, (x, y, z) in zip("OHH", xyz, strict=True)]
    (tmp_path / "water.xyz").write_text("\n".join(lines) + "\n")
    settings = [
        f"reader.path={tmp_path / 'water.xyz'}",
        "reader.level=DFT",
        "origin=here",
        "licence=CC0-1.0",
    ]
    assert main(["ingest", "reader=extxyz", *settings, f"out={tmp_path / 'store'}", "reader.source=water"]) == 2
    assert "rounded to steps of 2.3 kcal/mol" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "store" / "manifest.json").exists()
