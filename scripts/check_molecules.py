"""Writes molecules of known collections in every format, reads the files back with their engines, and compares.

python scripts/check_molecules.py [COLLECTION ...] [--most 150] [--every 10] [--minimise 200] [--out runs/check.jsonl]

Of each molecule: energies of all files equal the model's, charges are the model's and add up to the formal charge.
Some molecules are minimised with OpenMM: no bond may break or form, no stereo may change, no aromatic ring may bend.
Slow programs (LAMMPS, GROMACS, sander, OpenFF) read the files of every tenth molecule, where they are installed;
OpenMM reads those of all. Results are appended to the file OUT; the same command goes on after a stop. Prints a
table, and failures by cause. Exit status 1 when a molecule failed.
"""

import argparse
import contextlib
import json
import re
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import openmm
from openmm import app
from rdkit import Chem, rdBase
from rich.console import Console
from rich.table import Table

from espalike import export
from espalike.chem import ChemistryError, embed, from_smiles, to_rdkit
from espalike.chem.bonds import FAULTS, bond_faults
from espalike.chem.molecule import Molecule
from espalike.chem.pool import components
from espalike.cli.molecules_input import expand, read_source
from espalike.energy import energy
from espalike.model import load
from espalike.system import MMSystem

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from tests.export.cases import evaluate, reference  # noqa: E402 - found by path
from tests.export.programs import PROGRAMS  # noqa: E402

COLLECTIONS = ("minidrugbank", "freesolv", "rdkit")
NOISE = 0.05
"""Standard deviation of the displacements from the embedded geometry at which energies are compared [Å]."""
SLOW = {"OpenFF": "offxml", "LAMMPS": "lammps", "gmx_d": "gromacs", "sander": "amber"}
"""Programs that read the files of some molecules, and their formats."""
CHARGES = 1e-7
"""Largest deviation of charges that are read [e]; prmtop has nine digits."""
BENT = 0.2
"""Largest distance of an atom from the plane of its aromatic ring [Å]."""
Check = tuple[float, str]
"""Deviation, and what is wrong, or empty."""


def chosen(collections: list[str], most: int) -> Iterator[tuple[str, str]]:
    """Names and SMILES of the largest component of molecules, evenly over each collection, each once."""
    seen = set()
    for collection in expand(collections):
        all_of_it = [(name, smiles) for name, smiles in read_source(collection) if smiles]
        for place in np.unique(np.linspace(0, len(all_of_it) - 1, min(most, len(all_of_it))).astype(int)):
            name, smiles = all_of_it[place]
            with contextlib.suppress(ChemistryError, ValueError):  # the check reports it
                smiles = max(components(smiles), key=len)
            if smiles not in seen:
                seen.add(smiles)
                yield f"{collection} {place + 1} {name}", smiles


def openmm_charges(system: openmm.System) -> np.ndarray:
    """Charges [e] of the system's `NonbondedForce`."""
    (force,) = (force for force in system.getForces() if isinstance(force, openmm.NonbondedForce))
    return np.array([force.getParticleParameters(i)[0]._value for i in range(force.getNumParticles())])


def by_openmm(folder: Path, molecule: Molecule, system: MMSystem, xyz: np.ndarray) -> dict[str, openmm.System]:
    """The systems that OpenMM makes of the files it can read."""
    for name in ("m.system.xml", "m.xml", "m.prmtop", "m.top"):
        export.write(system, folder / name, xyz=xyz)
    return {
        "system, OpenMM": openmm.XmlSerializer.deserialize((folder / "m.system.xml").read_text()),
        "ffxml, OpenMM": app.ForceField(str(folder / "m.xml")).createSystem(export.to_topology(molecule)),
        "gromacs, OpenMM": app.GromacsTopFile(str(folder / "m.top")).createSystem(nonbondedMethod=app.NoCutoff),
        "amber, OpenMM": app.AmberPrmtopFile(str(folder / "m.prmtop")).createSystem(nonbondedMethod=app.NoCutoff),
    }


def text_charges(folder: Path, system: MMSystem, xyz: np.ndarray) -> dict[str, np.ndarray]:
    """Charges [e] in the files of GROMACS and LAMMPS."""
    export.write(system, folder / "m.lmp", xyz=xyz)
    sections = {
        "gromacs": (folder / "m.itp").read_text().partition("[ atoms ]")[2].partition("\n[ ")[0].splitlines(),
        "lammps": re.split(r"\n(?:Velocities|Bonds)\b", (folder / "m.lmp").read_text().partition("Atoms")[2])[0]
        .partition("\n")[2]
        .splitlines(),
    }
    rows = {name: [line.split(";")[0].split("#")[0].split() for line in lines] for name, lines in sections.items()}
    column = {"gromacs": 6, "lammps": 3}
    return {name: np.array([float(row[column[name]]) for row in found if row]) for name, found in rows.items()}


def compared(found: float, expected: float, size: float, tolerance: float) -> Check:
    """An energy with the model's; `size` is the sum of the terms' absolute values, all in kcal/mol."""
    off = abs(found - expected)
    wrong = not off <= tolerance + 1e-9 * size
    return off, f"energy {found:.9g}, expected {expected:.9g} kcal/mol" if wrong else ""


def charged(found: np.ndarray, expected: np.ndarray, formal: int) -> Check:
    """Charges with the model's, and their sum with the formal charge."""
    if found.shape != expected.shape:
        return np.inf, f"{len(found)} charges of {len(expected)} atoms"
    off = max(float(np.abs(found - expected).max()), abs(float(found.sum()) - formal))
    return off, "charges differ" if not off <= CHARGES * max(1, len(found) ** 0.5) else ""


def minimised(built: openmm.System, molecule: Molecule, start: np.ndarray) -> dict[str, Check]:
    """Bonds, stereo and aromatic rings of the minimum that OpenMM finds from a geometry [Å]."""
    integrator = openmm.VerletIntegrator(0.001)
    context = openmm.Context(built, integrator, openmm.Platform.getPlatform("Reference"))
    context.setPositions(start / 10.0)
    openmm.LocalEnergyMinimizer.minimize(context, 1.0, 2000)
    end = context.getState(positions=True).getPositions(asNumpy=True)._value * 10.0
    fault = int(bond_faults(molecule, end[None])[0])
    length = np.linalg.norm(end[molecule.bonds[:, 0]] - end[molecule.bonds[:, 1]], axis=1).max(initial=0.0)
    before, after = stereo(molecule, start), stereo(molecule, end)
    changed = [text for text in before if before[text] != after.get(text)]
    bend = bent(molecule, end)
    return {
        "minimum: bonds": (float(length), f"bonds {FAULTS[fault - 1]}" if fault else ""),
        "minimum: stereo": (float(len(changed)), f"stereo of {', '.join(changed)} changed" if changed else ""),
        "minimum: aromatic rings": (bend, f"a ring is bent by {bend:.2f} Å" if bend > BENT else ""),
    }


def stereo(molecule: Molecule, xyz: np.ndarray) -> dict[str, str]:
    """Stereo of atoms and bonds in a geometry [Å] `(A, 3)`, where they have any."""
    mol = to_rdkit(molecule, xyz)
    Chem.AssignStereochemistryFrom3D(mol)
    tags = {f"atom {a.GetIdx() + 1}": a.GetChiralTag().name for a in mol.GetAtoms() if a.GetChiralTag()}
    bonds = {f"bond {b.GetBeginAtomIdx() + 1}-{b.GetEndAtomIdx() + 1}": b.GetStereo().name for b in mol.GetBonds()}
    return tags | {name: value for name, value in bonds.items() if value not in ("STEREONONE", "STEREOANY")}


def bent(molecule: Molecule, xyz: np.ndarray) -> float:
    """Largest distance of an atom from the plane of its aromatic ring [Å]."""
    mol, farthest = to_rdkit(molecule), 0.0
    for ring in mol.GetRingInfo().AtomRings():
        if all(mol.GetAtomWithIdx(i).GetIsAromatic() for i in ring):
            centred = xyz[list(ring)] - xyz[list(ring)].mean(axis=0)
            farthest = max(farthest, float(np.abs(centred @ np.linalg.svd(centred)[2][2]).max()))
    return farthest


def check(molecule: Molecule, model, slow: bool, minimise: bool, folder: Path) -> dict[str, Check]:
    """All checks of one molecule."""
    start = embed(molecule)[0]
    xyz = start + np.random.default_rng(molecule.n_atoms).normal(0.0, NOISE, start.shape)
    xyz = xyz.round(6)  # the digits of a .gro
    system = model.parametrize(molecule)
    expected, _ = reference(system, xyz)
    prediction = energy(system, xyz_tensor(xyz), forces=False)
    size = float(sum(u.abs().sum() for u in prediction.by_term))
    charges = system.bound("Coulomb").values[:, 0].numpy()
    results: dict[str, Check] = {"model: net charge": charged(charges, charges, molecule.net_charge)}
    built = by_openmm(folder, molecule, system, xyz)
    for name, one in built.items():
        tolerance = 1e-6 * size if name.startswith("amber") else 1e-8
        results[name] = compared(evaluate(one, xyz)[0], expected, size, tolerance)
        results[f"{name}: charges"] = charged(openmm_charges(one), charges, molecule.net_charge)
    for name, found in text_charges(folder, system, xyz).items():
        results[f"{name}: charges"] = charged(found, charges, molecule.net_charge)
    if slow:
        for name, kind in SLOW.items():
            if not PROGRAMS[name].missing:
                found = PROGRAMS[name].run(system, xyz, folder)[0]["total"]
                tolerance = PROGRAMS[name].tolerance
                results[f"{kind}, {name}"] = compared(found, expected, size, max(tolerance, 1e-8 * size))
    if minimise:
        results |= minimised(built["system, OpenMM"], molecule, start)
    return results


def xyz_tensor(xyz: np.ndarray):
    """One conformer as the input of `energy`."""
    import torch

    return torch.from_numpy(xyz)[None]


def run(arguments: argparse.Namespace) -> list[dict]:
    """Check all molecules that the output file lacks; all its results."""
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    results = [json.loads(line) for line in arguments.out.read_text().splitlines()] if arguments.out.exists() else []
    done = {result["name"] for result in results}
    model = load(arguments.model).double()
    tally = sum(bool(result["checks"]) for result in results)
    minima = sum("minimum: bonds" in result["checks"] for result in results)
    with arguments.out.open("a") as file:
        for name, smiles in chosen(arguments.collections, arguments.most):
            if name in done:
                continue
            slow = tally % arguments.every == 0
            minimise = minima < arguments.minimise and tally % arguments.spread == 0
            result = {"name": name, "smiles": smiles, "refused": "", "failed": "", "checks": {}}
            with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), rdBase.BlockLogs():
                warnings.simplefilter("ignore")
                try:
                    molecule = from_smiles(smiles, name)
                except ChemistryError as error:
                    result["refused"] = str(error).removeprefix(f"{name}: ")
                else:
                    try:
                        result["checks"] = check(molecule, model, slow, minimise, Path(folder))
                        minima += minimise
                    except Exception as error:  # a failure of this molecule
                        result["failed"] = f"{type(error).__name__}: {error}"[-500:]
            tally += not result["refused"]
            results.append(result)
            file.write(json.dumps(result) + "\n")
            file.flush()
    return results


def cause(text: str) -> str:
    """A message without its names and numbers."""
    return re.sub(r"[-+]?\d+(\.\d+)?(e[-+]?\d+)?", "N", text)[:110]


def show(results: list[dict]) -> int:
    """Print the table and the failures by cause; the number of molecules that failed."""
    console = Console(width=150)
    checked = [result for result in results if not result["refused"]]
    console.print(f"{len(results)} molecules, {len(results) - len(checked)} not supported, {len(checked)} checked")
    table = Table("check", "molecules", "failed", "largest deviation", box=None)
    for name in dict.fromkeys(name for result in checked for name in result["checks"]):
        found = [result["checks"][name] for result in checked if name in result["checks"]]
        table.add_row(name, f"{len(found)}", f"{sum(bool(text) for _, text in found)}", f"{max(found)[0]:.2g}")
    console.print(table)
    bad: dict[str, list[str]] = {}
    for result in checked:
        texts = [result["failed"], *(f"{name}: {text}" for name, (_, text) in result["checks"].items() if text)]
        for text in filter(None, texts):
            bad.setdefault(cause(text.removeprefix(result["name"])), []).append(result["name"])
    for text, names in sorted(bad.items(), key=lambda item: -len(item[1])):
        console.print(f"failed {len(names)}: {text}; first {names[0]}", markup=False, soft_wrap=True)
    reasons = Counter(cause(result["refused"]) for result in results if result["refused"])
    for text, count in reasons.most_common(15):
        console.print(f"not supported {count}: {text}", markup=False, soft_wrap=True)
    return len({name for names in bad.values() for name in names})


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collections", nargs="*", default=list(COLLECTIONS), metavar="COLLECTION")
    parser.add_argument("--most", type=int, default=150, help="molecules of each collection (default: 150)")
    parser.add_argument("--every", type=int, default=10, help="slow programs read one molecule of these (default: 10)")
    parser.add_argument("--minimise", type=int, default=200, help="molecules to minimise (default: 200)")
    parser.add_argument("--spread", type=int, default=4, help="of these, one is minimised (default: 4)")
    parser.add_argument("--model", default="espalike-1", help="a shipped model or a model file")
    parser.add_argument("--out", type=Path, default=Path("runs/check.jsonl"), help="where results are kept")
    return 1 if show(run(parser.parse_args())) else 0


if __name__ == "__main__":
    sys.exit(main())
