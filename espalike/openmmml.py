"""Every calculator of espalike as a potential of OpenMM-ML (1.6 or later): `MLPotential("espalike-calculator", …)`.

OpenMM-ML finds the factory by the entry point `espalike-calculator` in the group `openmmml.potentials`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from openmmml.mlpotential import MLPotentialImpl, MLPotentialImplFactory
from rdkit import Chem
from rdkit.Chem import rdDetermineBonds

from espalike.chem.molecule import Molecule, from_rdkit
from espalike.potential import force_of, potential

if TYPE_CHECKING:
    import openmm

    from espalike.potential import Source


class Factory(MLPotentialImplFactory):
    """Makes the potential that `MLPotential("espalike-calculator", calculator=…)` asks for."""

    def createImpl(self, name: str, *, calculator: Source, charge: int = 0, **settings: Any) -> MLPotentialImpl:
        """The potential.

        Args:
            name: `espalike-calculator`.
            calculator: name of a calculator or model, model, or calculator; see `espalike.potential.potential`.
            charge: net charge of the molecule [e], where `createSystem` is not given the molecule.
            **settings: of a calculator that is given by its name, e.g. `weights=FILE`.
        """
        return Potential(calculator, charge, settings)


class Potential(MLPotentialImpl):
    """A calculator, for the whole topology or for some of its atoms, which must be one molecule.

    Args:
        source: see `espalike.potential.potential`.
        charge: net charge of the molecule [e].
        settings: of a calculator that is given by its name.
    """

    def __init__(self, source: Source, charge: int, settings: dict[str, Any]):
        self._source, self._charge, self._settings = source, charge, settings

    def addForces(
        self,
        topology: openmm.app.Topology,
        system: openmm.System,
        atoms: Iterable[int] | None,
        forceGroup: int,
        molecule: Molecule | None = None,
        **args: Any,
    ) -> None:
        """Add the force to a system; OpenMM-ML calls it.

        Args:
            topology: elements and bonds.
            system: what the force is added to.
            atoms: the atoms of the molecule; None: all.
            forceGroup: of the force.
            molecule: the graph, in the order of `atoms`; None takes it from the bonds of the topology.
            **args: settings for other potentials, which have no effect.

        Raises:
            ValueError: when the atoms are not one whole molecule, or not those of `molecule`.
        """
        numbers = range(topology.getNumAtoms()) if atoms is None else [int(atom) for atom in atoms]
        found = molecule_of(topology, numbers, self._charge) if molecule is None else _same(molecule, topology, numbers)
        force = force_of(potential(self._source, found, **self._settings), found, None if atoms is None else numbers)
        force.setForceGroup(forceGroup)
        system.addForce(force)

    def getMLLongRange(self) -> bool:
        """The molecule does not interact with its periodic images."""
        return False


def molecule_of(topology: openmm.app.Topology, atoms: Iterable[int], charge: int = 0) -> Molecule:
    """The molecule that some atoms of a topology are, in this order; bond orders follow from the net charge.

    Raises:
        ValueError: when these atoms are no whole molecule, or there are no bond orders that fit the charge.
    """
    everything = list(topology.atoms())
    places = {atom: place for place, atom in enumerate(atoms)}
    name = everything[next(iter(places))].residue.name if places else "no atoms"
    mol = Chem.RWMol()
    for atom in places:
        element = everything[atom].element
        mol.AddAtom(Chem.Atom(0 if element is None else element.atomic_number))
    for first, second in topology.bonds():
        i, j = places.get(first.index), places.get(second.index)
        if i is not None and j is not None:
            mol.AddBond(i, j, Chem.BondType.SINGLE)
        elif i is not None or j is not None:
            raise ValueError(
                f"{name}: atom {first.index} is bonded to atom {second.index}, and only one of them is given; "
                "the atoms must be a whole molecule"
            )
    advice = "give the molecule, molecule=Molecule.from_file(...), to createSystem or createMixedSystem"
    if len(Chem.GetMolFrags(mol)) != 1:
        raise ValueError(
            f"{name}: these {mol.GetNumAtoms()} atoms are {len(Chem.GetMolFrags(mol))} molecules by the bonds of the "
            f"topology; expected one; {advice}"
        )
    try:
        for atom in mol.GetAtoms():
            atom.SetNoImplicit(True)
        rdDetermineBonds.DetermineBondOrders(mol, charge=charge, embedChiral=False)
    except (ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"{name}: no bond orders for a net charge of {charge:+d} e ({reason}); "
            f"{advice}, or the charge: MLPotential(..., charge=...)"
        ) from error
    return from_rdkit(mol, name)


def _same(molecule: Molecule, topology: openmm.app.Topology, atoms: Iterable[int]) -> Molecule:
    everything = list(topology.atoms())
    elements = [everything[atom].element for atom in atoms]
    numbers = [0 if element is None else element.atomic_number for element in elements]
    if numbers != molecule.numbers.tolist():
        raise ValueError(
            f"{molecule.name}: expected its {molecule.n_atoms} atoms in its order, elements "
            f"{molecule.numbers.tolist()}; the topology has {numbers}. Atoms that cap cut bonds are not supported"
        )
    places = {atom: place for place, atom in enumerate(atoms)}
    ends = ((places.get(first.index), places.get(second.index)) for first, second in topology.bonds())
    bonds = {(min(i, j), max(i, j)) for i, j in ends if i is not None and j is not None}
    expected = set(map(tuple, molecule.bonds.tolist()))
    if bonds and bonds != expected:
        i, j = min(bonds ^ expected)
        has, lacks = ("topology", "molecule") if (i, j) in bonds else ("molecule", "topology")
        raise ValueError(
            f"{molecule.name}: expected its {molecule.n_atoms} atoms in its order; the {has} has a bond between atoms "
            f"{i + 1} and {j + 1}, and the {lacks} has none"
        )
    return molecule
