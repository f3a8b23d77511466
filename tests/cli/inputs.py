"""Small model files and records of an SDF for the tests of commands."""

import torch
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from espalike import chem, model

CONFIG = {
    "terms": [
        {"_target_": "espalike.terms.bond.HarmonicBond"},
        {"_target_": "espalike.terms.angle.HarmonicAngle"},
        {"_target_": "espalike.terms.torsion.PeriodicProper"},
        {"_target_": "espalike.terms.torsion.PeriodicImproper"},
        {"_target_": "espalike.terms.lennard_jones.LennardJones", "scale14": 0.5},
        {"_target_": "espalike.terms.coulomb.Coulomb", "scale14": 0.8333333333333334},
    ],
    "conv": {"_target_": "espalike.nn.convs.SAGE", "_partial_": True},
    "width": 16,
    "layers": 2,
    "hidden": 16,
}
TRAINED_ON = ("CCO", "CC(=O)[O-]", "O", "CC(=O)Nc1ccccc1")


def save_model(path, config=CONFIG, trained_on=TRAINED_ON):
    torch.manual_seed(1)
    made = model.from_config(config)
    made.provenance.domain = model.ChemicalDomain.of([chem.from_smiles(s) for s in trained_on])
    made.save(path)
    return str(path)


def morse_model(folder):
    terms = [{"_target_": "espalike.terms.bond.MorseBond"}, *CONFIG["terms"][1:]]
    return save_model(folder / "morse.espalike", {**CONFIG, "terms": terms})


def geometry(smiles, name="", charges=None, hydrogens=True):
    mol = Chem.MolFromSmiles(smiles)
    mol = Chem.AddHs(mol) if hydrogens else mol
    rdDistGeom.EmbedMolecule(mol, randomSeed=1)
    text = Chem.MolToMolBlock(mol).split("\n", 1)
    data = f"> <atom.dprop.PartialCharge>\n{charges}\n\n" if charges else ""
    return f"{name}\n{text[1]}{data}$$$$\n"
