"""Cost of an OpenMM step of each functional form, relative to class I and to OpenFF 2.2.1.

python benchmarks/md_step.py [--forcefields class1,class2,…] [--molecules 4] [--platform CPU] [--json FILE]

Force fields are those of `configs/forcefield/` with an untrained network (cost depends on the form, not on the numbers;
no parameter of an untrained network is zero), or model files. Gas phase: no cut-off, no constraints. Solvated: ligand
in rigid TIP3P, PME, cut-off 9 Å. The same coordinates, integrator (Langevin, 0.5 fs) and settings for all, one thread.
Force fields take turns in rounds; a ratio is the median over rounds of the ratio within the round. On the CPU and
Reference platforms, processor time is counted, which other programs disturb little; on others, time of the clock.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import openmm
from openmm import app, unit
from rich.console import Console
from rich.progress import track
from rich.table import Table

from espalike.files import write

MOLECULES = {  # parameters and interactions are counted for the first, of 43 atoms
    "cocaine": "CN1C2CCC1C(C(=O)OC)C(OC(=O)c1ccccc1)C2",
    "celecoxib": "Cc1ccc(cc1)-c1cc(C(F)(F)F)nn1-c1ccc(cc1)S(N)(=O)=O",
    "ibuprofen anion": "CC(C)Cc1ccc(cc1)C(C)C(=O)[O-]",
    "imatinib": "Cc1ccc(NC(=O)c2ccc(CN3CCN(C)CC3)cc2)cc1Nc1nccc(n1)-c1cccnc1",
    "penicillin G anion": "CC1(C)SC2C(NC(=O)Cc3ccccc3)C(=O)N2C1C(=O)[O-]",
    "caffeine": "Cn1c(=O)c2c(ncn2C)n(C)c1=O",
}
OPENFF, TOOLKIT, CLASS1 = "openff-2.2.1", "openff-2.2.1, toolkit", "class1"
CUSTOM = "class1, torsions=custom"
STEP = 0.5 * unit.femtoseconds
CUTOFF = 0.9 * unit.nanometer


def untrained(name: str):
    """An untrained model of a force field of `configs/forcefield/`, built as `espalike train` builds it."""
    import torch
    from hydra import compose, initialize_config_module
    from omegaconf import OmegaConf

    from espalike.model import from_config

    with initialize_config_module("espalike.configs", version_base="1.3"):
        settings = compose("train", [f"forcefield={name}", "model=tiny"])
    plain: Any = OmegaConf.to_container(settings, resolve=False)
    torch.manual_seed(0)
    config = {"terms": list(plain["forcefield"]["term"].values()), "conv": plain["conv"], **plain["model"]}
    return from_config(config)


def known_forcefields() -> list[str]:
    from importlib.resources import files

    names = sorted(Path(str(files("espalike.configs"))).glob("forcefield/*.yaml"))
    return [CLASS1, *(path.stem for path in names if path.stem != CLASS1)]


def assigners(names: list[str]) -> dict[str, Any]:
    """Force field by name: molecules → `MMSystem`; OpenFF first, if its packages are installed."""
    import espalike

    fields: dict[str, Any] = {}
    try:
        from espalike.assigners.openff import OpenFFAssigner

        fields[OPENFF] = OpenFFAssigner()
    except ImportError as error:
        print(f"note: no OpenFF in the table ({error})", file=sys.stderr)
    for name in names:
        model = espalike.load(name) if name.endswith(".espalike") else untrained(name)
        path = Path(name)  # runs/mine/model.espalike is called mine
        label = path.parent.name if path.stem == "model" else path.stem
        fields[label] = lambda molecules, model=model: model.parametrize(molecules)
    return fields


def parameters(system) -> int:
    """Number of non-zero parameters of the molecules, without borrowed ones and those of the whole force field."""
    total = 0
    for bound in system.terms:
        for param, column in zip(bound.term.params, bound.values.T, strict=True):
            if not param.borrows and not param.universal:
                total += int((column != 0).sum())
    return total


def interactions(system: openmm.System) -> dict[str, int]:
    """Number of rows of each force; they determine the cost of a step of a small molecule."""
    counts: dict[str, int] = {}
    for force in system.getForces():
        for what in ("Bonds", "Angles", "Torsions", "Exceptions"):
            if hasattr(force, f"getNum{what}"):
                name = type(force).__name__.removesuffix("Force")
                counts[name] = counts.get(name, 0) + getattr(force, f"getNum{what}")()
    return counts


def formats(system, xyz: np.ndarray) -> dict[str, str]:
    """Each export format with `yes`, or the reason why it cannot express the force field."""
    from espalike import export

    result = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, format in export.FORMATS.items():
            try:
                export.write(system, Path(folder) / f"molecule{format.endings[0]}", name, xyz=xyz)
                result[name] = "yes"
            except (ValueError, ImportError) as error:
                result[name] = str(error)
    return result


def toolkit_system(assigner, molecule) -> openmm.System:
    """The OpenFF toolkit's own system, through Interchange, with the same charges."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from openff.toolkit import ForceField, Molecule
        from openff.units import Quantity

        ligand = Molecule.from_mapped_smiles(molecule.smiles, allow_undefined_stereo=True)
        ligand.partial_charges = Quantity(assigner.reference(molecule)[0], "elementary_charge")
        field = ForceField(assigner.force_field)
        return field.create_openmm_system(ligand.to_topology(), charge_from_molecules=[ligand])


def solvated(system, molecule, topology: app.Topology) -> openmm.System:
    """The molecule in rigid TIP3P with PME; the form's parameters through the ForceField XML."""
    from espalike import export
    from espalike.terms.lennard_jones import LennardJones

    lj = any(type(bound.term) is LennardJones for bound in system.terms)
    field = app.ForceField("tip3p.xml", io.StringIO(export.texts(system, "ffxml", mixed=None if lj else "lj")[".xml"]))
    return field.createSystem(topology, nonbondedMethod=app.PME, nonbondedCutoff=CUTOFF, rigidWater=True)


def box(system, molecule, xyz: np.ndarray, waters: int) -> app.Modeller:
    """Topology and positions of the molecule among waters."""
    from espalike import export

    field = app.ForceField("tip3p.xml", io.StringIO(export.texts(system, "ffxml")[".xml"]))
    modeller = app.Modeller(export.to_topology(molecule), xyz * unit.angstrom)
    modeller.addSolvent(field, numAdded=waters, neutralize=False)
    return modeller


class Timing:
    """Contexts of one problem, one per force field, at the same relaxed coordinates."""

    def __init__(self, systems: dict[str, openmm.System], positions, platform: openmm.Platform, relax: int):
        options = {"Threads": "1"} if platform.getName() == "CPU" else {}
        self.clock = time.process_time if platform.getName() in ("CPU", "Reference") else time.perf_counter
        self.contexts: dict[str, openmm.Context] = {}
        for name, system in systems.items():
            integrator = openmm.LangevinMiddleIntegrator(300 * unit.kelvin, 1 / unit.picosecond, STEP)
            integrator.setRandomNumberSeed(1)
            context = openmm.Context(system, integrator, platform, options)
            context.setPositions(positions)
            if not self.contexts and relax:
                openmm.LocalEnergyMinimizer.minimize(context, 10.0, relax)
                positions = context.getState(positions=True).getPositions()
            context.applyConstraints(1e-6)
            context.setVelocitiesToTemperature(300 * unit.kelvin, 1)
            integrator.step(10)
            self.contexts[name] = context
        self.seconds: dict[str, list[float]] = {name: [] for name in systems}

    def steps_for(self, seconds: float) -> int:
        """Number of steps that take about `seconds` with the first force field."""
        integrator = next(iter(self.contexts.values())).getIntegrator()
        start = self.clock()
        integrator.step(5)
        self._finish(next(iter(self.contexts.values())))
        return max(5, round(5 * seconds / (self.clock() - start)))

    def round(self, steps: int) -> None:
        """One measurement per force field, in reverse order in every other round."""
        names = list(self.contexts)
        for name in names if len(self.seconds[names[0]]) % 2 else names[::-1]:
            context = self.contexts[name]
            start = self.clock()
            context.getIntegrator().step(steps)
            self._finish(context)
            self.seconds[name].append((self.clock() - start) / steps)

    @staticmethod
    def _finish(context: openmm.Context) -> None:
        energy = context.getState(energy=True).getPotentialEnergy()
        if not math.isfinite(energy._value):
            raise FloatingPointError("the energy is not finite; the benchmark means nothing")

    def result(self) -> dict[str, dict[str, float]]:
        """Per force field: median microseconds per step, and ratios to class I and OpenFF."""
        table: dict[str, dict[str, float]] = {}
        for name, times in self.seconds.items():
            table[name] = {"microseconds": statistics.median(times) * 1e6}
            for base in (CLASS1, OPENFF):
                if base in self.seconds:
                    ratios = [a / b for a, b in zip(times, self.seconds[base], strict=True)]
                    low, middle, high = np.percentile(ratios, [25, 50, 75]).tolist()
                    table[name] |= {f"/{base}": middle, f"/{base} quartiles": [low, high]}  # type: ignore[dict-item]
        return table


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """All measurements, as `--json` writes them."""
    from espalike import chem
    from espalike.export import to_openmm

    engine = openmm.Platform.getPlatform(arguments.platform)
    fields = assigners(arguments.forcefields.split(",") if arguments.forcefields else known_forcefields())
    chosen = list(MOLECULES.items())[: arguments.molecules]
    forms: dict[str, Any] = {}
    gas: dict[str, Any] = {}
    water: dict[str, Any] = {}
    for name, smiles in track(chosen, "gas phase", console=Console(stderr=True), transient=True):
        molecule = chem.from_smiles(smiles, name)
        xyz = chem.embed(molecule)[0]
        systems = {label: assign([molecule]) for label, assign in fields.items()}
        engines = {label: to_openmm(system) for label, system in systems.items()}
        if not forms:
            for label, system in systems.items():
                counts = {"parameters": parameters(system), "interactions": interactions(engines[label])}
                forms[label] = {**counts, "formats": formats(system, xyz)}
            first = (molecule, xyz, systems)
        if CLASS1 in systems:
            engines[CUSTOM] = to_openmm(systems[CLASS1], torsions="custom")
        if OPENFF in fields:
            engines[TOOLKIT] = toolkit_system(fields[OPENFF], molecule)
        timing = Timing(engines, xyz * unit.angstrom, engine, relax=200)
        steps = timing.steps_for(0.1)
        for _ in range(arguments.rounds):
            timing.round(steps)
        gas[name] = timing.result()
    if arguments.waters:
        molecule, xyz, systems = first
        modeller = box(next(iter(systems.values())), molecule, xyz, arguments.waters)
        boxed = {label: solvated(system, molecule, modeller.topology) for label, system in systems.items()}
        timing = Timing(boxed, modeller.positions, engine, relax=50)
        steps = timing.steps_for(0.3)
        for _ in track(range(arguments.rounds), "solvated", console=Console(stderr=True), transient=True):
            timing.round(steps)
        water = {"molecule": molecule.name, "atoms": modeller.topology.getNumAtoms(), **timing.result()}
    about = {"platform": arguments.platform, "openmm": openmm.version.version, "rounds": arguments.rounds}
    return {"about": about, "molecules": dict(chosen), "forms": forms, "gas": gas, "solvated": water}


def mean_ratio(gas: dict[str, Any], name: str, base: str) -> float | None:
    """Geometric mean over molecules."""
    ratios = [table[name][f"/{base}"] for table in gas.values() if f"/{base}" in table[name]]
    return math.exp(statistics.fmean(map(math.log, ratios))) if ratios else None


def show(result: dict[str, Any], console: Console) -> None:
    """Print two tables: contents and costs of the forms."""
    first = next(iter(result["molecules"]))
    table = Table("force field", "parameters", "rows of forces", "formats", title=f"{first}: parameters, OpenMM rows")
    for name, form in result["forms"].items():
        rows = ", ".join(f"{count} {force}" for force, count in form["interactions"].items())
        table.add_row(
            name, str(form["parameters"]), rows, ", ".join(k for k, v in form["formats"].items() if v == "yes")
        )
    console.print(table)
    water, gas = result["solvated"], result["gas"]
    headings = [f"{place} {unit}" for place in ("gas", "water") for unit in ("[µs]", f"/ {CLASS1}", f"/ {OPENFF}")]
    table = Table("force field", title=f"CPU cost of a step, {result['about']['platform']} platform, one thread")
    for heading in headings:
        table.add_column(heading, justify="right")
    for name in next(iter(gas.values())):
        cells = [f"{gas[first][name]['microseconds']:.0f}"]
        cells += [_ratio(mean_ratio(gas, name, base)) for base in (CLASS1, OPENFF)]
        if name in water:
            cells.append(f"{water[name]['microseconds']:.0f}")
            cells += [_ratio(water[name].get(f"/{base}")) for base in (CLASS1, OPENFF)]
        table.add_row(name, *cells)
    console.print(table)
    console.print(
        f"[µs] of {first}; ratios in gas: geometric mean over {len(gas)} molecules, each the median over "
        f"{result['about']['rounds']} rounds" + (f"; water: {water['atoms']} atoms, PME" if water else "")
    )


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def main() -> int:
    """Read the command line, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--forcefields", help="names or model files, comma separated (default: all of configs)")
    parser.add_argument("--molecules", type=int, default=4, help=f"how many of {', '.join(MOLECULES)}")
    parser.add_argument("--waters", type=int, default=1000, help="waters of the solvated box; 0 leaves it out")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--platform", default="CPU", help="OpenMM platform")
    parser.add_argument("--json", metavar="FILE", help="write all measurements here")
    arguments = parser.parse_args()
    result = run(arguments)
    show(result, Console(width=max(Console().width, 120)))
    if arguments.json:
        Path(arguments.json).parent.mkdir(parents=True, exist_ok=True)
        write(arguments.json, json.dumps(result, indent=1, ensure_ascii=False) + "\n")
        print(f"wrote {arguments.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
