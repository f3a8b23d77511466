"""Ligands typed while OpenMM builds a system: `EspalikeTemplateGenerator`, with the protocol of openmmforcefields.

```python
forcefield = app.ForceField("amber14-all.xml", "amber14/tip3p.xml")
generator = EspalikeTemplateGenerator(["ligand.sdf", "CC(=O)Nc1ccc(O)cc1"], model="espalike-1", cache="cache")
forcefield.registerTemplateGenerator(generator.generator)
system = forcefield.createSystem(topology, nonbondedMethod=app.PME, constraints=app.HBonds)
```

As with every OpenMM template, a residue is recognised by its graph of elements and bonds; names and order of atoms do
not matter. A warning explains why a residue that looks like a ligand is none.

A ligand that is bound covalently is a residue of its own, bonded to one of the protein. Give the molecule with the
nearest atoms of the protein as caps, to three bonds from the ligand: `CCSCC(=O)NC` for CH2C(=O)NHCH3 on a cysteine,
where CCS are CA, CB and SG. The protein has its own parameters (the cysteine those of Amber's CYX); the ligand, and the
bonds, angles and torsions across the border, have those of the molecule. The charge of the caps is spread over the
ligand.
"""

from __future__ import annotations

import hashlib
import inspect
import io
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from espalike import chem
from espalike.chem.charges import fit_to_formal
from espalike.chem.graphs import skeleton
from espalike.chem.molecule import Molecule
from espalike.chem.names import is_misnamed
from espalike.chem.records import TYPED
from espalike.chem.sanitize import plain_name
from espalike.export import ffxml, template_cache
from espalike.export.border import cut
from espalike.export.formats import refusal
from espalike.export.matching import explanation, is_isomorphic, part_of, skeleton_of
from espalike.export.pairs import MIXED
from espalike.export.parts import Single, select
from espalike.model import DEFAULT, ForceFieldModel, load

if TYPE_CHECKING:
    import openmm.app
    from rdkit import Chem

_LOG = logging.getLogger(__name__)
_PACKAGES = ("chem", "export", "nn", "terms")
"""Packages whose code parameters and files depend on, beside the modules of espalike itself."""
_OPENFF = "partial_charges of the OpenFF molecule"


@dataclass(frozen=True, eq=False)
class Ligand:
    """A molecule that the generator knows.

    Attributes:
        molecule: its graph.
        charges: partial charges to use [e], shape `(A,)`, or None for the model's.
        source: where the charges come from, as it is written into the template's `<Info>`.
    """

    molecule: Molecule
    charges: np.ndarray | None
    source: str

    @property
    def label(self) -> str:
        """Its name in messages; for a SMILES that has none, the SMILES."""
        return plain_name(chem.to_rdkit(self.molecule)) if self.molecule.name == TYPED else self.molecule.name


class EspalikeTemplateGenerator:
    """Residue templates from a model, for `openmm.app.ForceField.registerTemplateGenerator(generator.generator)`.

    Args:
        molecules: the molecules that residues may be: one, several, or none yet. A molecule is an espalike, OpenFF or
            RDKit molecule, a SMILES, or a file of molecules.
        model: name of a shipped model, a model file, or a model.
        cache: directory that keeps templates between runs, in files named by hashes of model and molecule.
        charges: `given` uses the non-zero charges that come with a molecule (OpenFF `partial_charges`, charges of an
            SDF or MOL2) and the model's where there are none; `model` always the model's; or numbers [e], one array
            for one molecule, a list with an array or None (the model's) per molecule for several. `ligands` has them.
        mixed: how pairs with atoms of other force fields are treated where the van der Waals form is not
            Lennard-Jones; see `espalike.export.ffxml.texts`.

    Attributes:
        hits: templates that came from the cache.
        misses: templates that the model made.

    Raises:
        FileNotFoundError, ModelFileError: for a model that does not exist or is not readable.
        ValueError: for molecules or charges that do not fit, or an unknown `mixed`.
    """

    def __init__(
        self,
        molecules: Any = None,
        model: str | Path | ForceFieldModel = DEFAULT,
        cache: str | Path | None = None,
        charges: str | Sequence[Any] | np.ndarray = "given",
        mixed: str | None = None,
    ):
        if not isinstance(model, str | Path | ForceFieldModel):
            raise TypeError(f"model: expected a name, a model file or a model; got {type(model).__name__}")
        if mixed not in MIXED:
            raise ValueError(f"mixed={mixed!r}: expected one of {', '.join(map(repr, MIXED))}")
        self.model = model if isinstance(model, ForceFieldModel) else load(model)
        self.model_name = "model in memory" if isinstance(model, ForceFieldModel) else Path(model).name
        self.mixed = mixed
        self.cache = None if cache is None else Path(cache)
        if self.cache is not None and self.cache.is_file():
            raise ValueError(f"cache {cache} is a file; the cache is a directory of templates: give another name")
        self.hits = self.misses = 0
        self._ligands: list[Ligand] = []
        self._skeletons: list[Chem.Mol] = []
        self._texts: dict[str, str] = {}
        self.add_molecules([] if molecules is None else molecules, charges)

    @property
    def ligands(self) -> tuple[Ligand, ...]:
        """The known molecules, with their charges."""
        return tuple(self._ligands)

    def add_molecules(self, molecules: Any, charges: str | Sequence[Any] | np.ndarray = "given") -> None:
        """Add molecules that residues may be; for the arguments see the class.

        A molecule that is already known, or a stereoisomer of it (parameters do not depend on it), is left out.

        Raises:
            ValueError: (also ChemistryError, DomainError) when a molecule cannot be used, charges do not fit it, or
                it has the elements and bonds of a known one but other charges, so that OpenMM cannot distinguish them.
        """
        read = [item for given in chem.several(molecules)[1] for item in _molecules(given)]
        for ligand in _with_charges(read, charges):
            if self.model.domain.elements:
                for remark in self.model.domain.check(ligand.molecule):
                    _LOG.warning("%s: %s", ligand.label, remark)
            graph = skeleton(ligand.molecule.numbers.tolist(), ligand.molecule.bonds.tolist())
            known = self._find(graph)
            if known is None:
                _LOG.info("%s: charges: %s", ligand.label, ligand.source)
                self._ligands.append(ligand)
                self._skeletons.append(graph)
            elif not _interchangeable(known, ligand):
                raise ValueError(
                    f"{ligand.label} and {known.label} have the same elements and bonds, by which "
                    "OpenMM knows a residue, but different charges; use a generator and a ForceField for each"
                )

    def generator(self, forcefield: openmm.app.ForceField, residue: openmm.app.topology.Residue) -> bool:
        """Called by OpenMM for a residue without a template.

        Returns:
            Whether the residue is one of the molecules, or one without its caps; if so, its template and parameters
            were added to `forcefield`.
        """
        graph = skeleton_of(residue)
        ligand, kept = None if graph is None else self._find(graph), None
        if graph is None:
            ligand, kept = self._find_part(residue)
        if ligand is None:
            names = [ligand.label for ligand in self._ligands]
            if text := explanation(residue, list(zip(names, self._skeletons, strict=True))):
                _LOG.warning("%s", text)
            return False
        if residue.name == "HOH" and is_misnamed(residue.name, ligand.molecule.numbers.tolist()):
            _LOG.warning(
                "residue %s %s is %s, but OpenMM takes it for water by its name, and makes its bonds rigid: give it "
                "another name, or createSystem(rigidWater=False)",
                residue.name,
                residue.id,
                ligand.label,
            )
        forcefield.loadFile(io.StringIO(self.ffxml(ligand, kept)))
        return True

    def ffxml(self, ligand: Ligand, kept: tuple[int, ...] | None = None) -> str:
        """The ForceField XML of one of `ligands`, from the cache if it has it.

        Args:
            ligand: the molecule.
            kept: of a ligand that is bound covalently, the atoms that are not caps.
        """
        model = _hash_of_model(self.model)  # now: it may have been trained since the last call
        name = f"{model}-{_hash_of_ligand(ligand, self.mixed, kept)}.xml"
        if name not in self._texts:
            self._texts[name] = self._cached(name) or self._made(ligand, kept, name, model)
        return self._texts[name]

    def _find(self, graph: Chem.Mol) -> Ligand | None:
        for ligand, known in zip(self._ligands, self._skeletons, strict=True):
            if is_isomorphic(known, graph):
                return ligand
        return None

    def _find_part(self, residue: openmm.app.topology.Residue) -> tuple[Ligand | None, tuple[int, ...] | None]:
        for ligand, known in zip(self._ligands, self._skeletons, strict=True):
            if (kept := part_of(residue, known)) is not None:
                return ligand, kept
        return None, None

    def _cached(self, name: str) -> str | None:
        text = None if self.cache is None else template_cache.read(self.cache / name)
        self.hits += text is not None
        return text

    def _made(self, ligand: Ligand, kept: tuple[int, ...] | None, name: str, model: str) -> str:
        if refused := refusal(self.model.terms, ["ffxml"]):
            raise ValueError(refused)
        self.misses += 1
        info = {"Model": self.model_name, "ModelHash": model, "Charges": ligand.source}
        system, border = self.model.parametrize(ligand.molecule, ligand.charges), None
        if kept is not None:
            system, border = cut(system, kept)
            info["Caps"] = (
                f"of {ligand.molecule.smiles}; their charge of {border.excess:+.6f} e is spread over the {len(kept)} "
                "atoms of the residue"
            )
        text = ffxml.texts(Single(select(system), "ffxml", info), self.mixed, border)[".xml"]
        if self.cache is not None:
            template_cache.write(self.cache / name, text)
        return text


def _molecules(given: Any) -> list[tuple[Molecule, np.ndarray | None, str]]:
    """The molecules of one argument, with their charges, if any, and where these come from."""
    typed, read = isinstance(given, str | os.PathLike), []
    source = str(given) if typed else "partial_charges of the OpenFF molecule"
    for entry in chem.read_any(given):
        if entry.molecule is None:
            raise chem.ChemistryError(f"{given if typed else entry.name}: {entry.error}")
        read.append((entry.molecule, entry.charges, source))
    return read


def _with_charges(molecules: list[tuple[Molecule, np.ndarray | None, str]], charges: Any) -> list[Ligand]:
    if isinstance(charges, str):
        if charges not in ("given", "model"):
            raise ValueError(f"charges={charges!r}: expected 'given', 'model' or numbers")
        given = [values if charges == "given" else None for _, values, _ in molecules]
        # some toolkits write zeros for a molecule without charges
        given = [None if values is None or not np.any(values) else values for values in given]
        for (m, _, source), values in zip(molecules, given, strict=True):
            if values is not None and source != _OPENFF:  # also files of espalike, with charges of another model
                _LOG.warning("%s: the charges of %s are used; charges='model' takes the model's", m.name, source)
        return [_ligand(m, values, source) for (m, _, source), values in zip(molecules, given, strict=True)]
    if len(molecules) == 1 and len(charges) and charges[0] is not None and np.ndim(charges[0]) == 0:
        charges = [charges]
    if len(charges) != len(molecules):
        raise ValueError(f"charges for {len(charges)} molecules were given, but there are {len(molecules)}")
    return [_ligand(m, values, "the charges argument") for (m, _, _), values in zip(molecules, charges, strict=True)]


def _ligand(molecule: Molecule, charges: Any, source: str) -> Ligand:
    if charges is None:
        return Ligand(molecule, None, "model")
    fitted = fit_to_formal(molecule, charges)
    shift = float(fitted[0] - np.asarray(charges, dtype=np.float64)[0])
    note = f", {shift:+.1e} e added to each atom to sum to the formal charge" if abs(shift) > 1e-9 else ""
    return Ligand(molecule, fitted, f"given by {source}{note}")


def _interchangeable(known: Ligand, other: Ligand) -> bool:
    """Whether two molecules of the same elements and bonds get the same parameters.

    With the same net charge they are the same up to stereochemistry and resonance, on which parameters do not depend;
    given charges, and isotopes, must be equal in the same atom order.
    """
    if known.molecule.net_charge != other.molecule.net_charge:
        return False
    isotopes = known.molecule.isotopes, other.molecule.isotopes
    if not np.any(isotopes) and (known.charges is None or other.charges is None):
        return known.charges is other.charges
    same_order = np.array_equal(known.molecule.numbers, other.molecule.numbers) and np.array_equal(
        known.molecule.bonds, other.molecule.bonds
    )
    if not same_order or not np.array_equal(*isotopes):
        return False
    if known.charges is None or other.charges is None:
        return known.charges is other.charges
    return np.array_equal(known.charges, other.charges)


def _hash_of_model(model: ForceFieldModel) -> str:
    """Hash of weights, configuration and the code that computes parameters and writes them."""
    digest = hashlib.sha256(repr([model.terms, model.levels]).encode())
    if model.provenance is not None:
        digest.update(json.dumps(model.provenance.config, sort_keys=True, default=repr).encode())
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode() + value.detach().cpu().numpy().tobytes())
    plugins = {inspect.getsourcefile(type(term)) or "" for term in model.terms}
    package = Path(str(files("espalike")))
    code = [*package.glob("*.py"), *(path for name in _PACKAGES for path in (package / name).glob("*.py"))]
    sources = {str(path) for path in code} | (plugins - {""})
    for path in sorted(sources):
        digest.update(Path(path).read_bytes())
    return digest.hexdigest()[:16]


def _hash_of_ligand(ligand: Ligand, mixed: str | None, kept: tuple[int, ...] | None) -> str:
    names = " ".join(ligand.molecule.atom_names)
    digest = hashlib.sha256(f"{ligand.molecule.smiles} {mixed} {names} {kept or ''}".rstrip().encode())
    if ligand.charges is not None:
        digest.update(np.ascontiguousarray(ligand.charges, dtype="<f8").tobytes())
    return digest.hexdigest()[:16]
