"""The model: invariances of what it assigns, its domain, its file."""

import json
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from espalike.batch import batch_of
from espalike.chem import embed, from_rdkit, from_smiles, to_rdkit
from espalike.energy import energy
from espalike.features import FEATURES
from espalike.model import (
    ChemicalDomain,
    DomainError,
    ModelFileError,
    describe,
    environments,
    fit_to_formal,
    from_config,
    load,
)
from espalike.modelfile import INPUT_LAYER, VERSION
from espalike.nn.build import UntrustedTarget
from espalike.terms.base import PairTerm
from tests.molecules import DRUGLIKE, RESONANCE_PAIRS, SMALL
from tests.training.common import CONFIG

F64 = torch.float64


def smiles_of(entries):
    return [
        entry if isinstance(entry, str) else entry[-1]
        for entry in (entries.values() if isinstance(entries, dict) else entries)
    ]


@pytest.fixture(scope="module")
def model():
    """An untrained model whose parameters differ visibly between atoms."""
    torch.manual_seed(0)
    model = from_config(CONFIG).double()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "tuple.3" in name:
                weight.mul_(10.0)
    return model


def renumbered(molecule, order):
    from rdkit import Chem

    return from_rdkit(Chem.RenumberAtoms(to_rdkit(molecule), [int(i) for i in order]), molecule.name)


def canonical(system, place):
    """Parameters by term and tuple of original atoms, whatever the order in which a tuple is written."""
    found = {}
    for bound in system.terms:
        per_atom = isinstance(bound.term, PairTerm)
        for row, values in enumerate(bound.values):
            atoms = tuple(int(place[a]) for a in ([row] if per_atom else bound.tuples.idx[row]))
            if bound.term.name == "PeriodicImproper":
                atoms = (atoms[1], *sorted(atoms))
            found[bound.term.name, min(atoms, atoms[::-1])] = values
    return found


@settings(max_examples=25, deadline=None)
@given(smiles=st.sampled_from(smiles_of(DRUGLIKE)), seed=st.integers(0, 10_000))
def test_renumbering_changes_nothing(model, smiles, seed):
    molecule, rng = from_smiles(smiles), np.random.default_rng(seed)
    order = rng.permutation(molecule.n_atoms)
    other = renumbered(molecule, order)
    a, b = model.parametrize(molecule), model.parametrize(other)
    xyz = embed(molecule, 1, seed=1) + 0.1 * rng.standard_normal((1, molecule.n_atoms, 3))
    pa, pb = energy(a, torch.from_numpy(xyz)), energy(b, torch.from_numpy(xyz[:, order]))
    assert abs(float(pa.energy - pb.energy)) < 1e-8
    torch.testing.assert_close(pb.forces, pa.forces[:, order], rtol=1e-9, atol=1e-8)
    first, second = canonical(a, np.arange(molecule.n_atoms)), canonical(b, order)
    assert first.keys() == second.keys()
    assert max(float((first[k] - second[k]).abs().max()) for k in first) < 1e-10


@pytest.mark.parametrize("pair", RESONANCE_PAIRS, ids=str)
def test_resonance_form_changes_nothing(model, pair):
    first, second = (model.parametrize(from_smiles(s)) for s in smiles_of(pair)[-2:])
    for a, b in zip(first.terms, second.terms, strict=True):
        assert torch.equal(a.tuples.idx, b.tuples.idx)
        torch.testing.assert_close(a.values, b.values, rtol=0, atol=1e-10)


@pytest.mark.parametrize("smiles", smiles_of(SMALL))
def test_small_molecules_have_parameters_and_their_charge(model, smiles):
    molecule = from_smiles(smiles)
    system = model.parametrize(molecule)
    assert all(bound.values.isfinite().all() for bound in system.terms)
    assert float(system.bound("Coulomb").values.sum()) == pytest.approx(molecule.net_charge, abs=1e-9)
    xyz = torch.randn(2, molecule.n_atoms, 3, dtype=F64) * 2
    prediction = energy(system, xyz)
    assert prediction.energy.isfinite().all()
    assert prediction.forces.isfinite().all()


def test_batch_equals_singles(model):
    molecules = [from_smiles(s) for s in (*smiles_of(DRUGLIKE)[:6], "O", "[Na+]")]
    with torch.no_grad():
        together = model(batch_of(molecules, F64))
    start = 0
    singles = [model.parametrize(m) for m in molecules]
    for place, bound in enumerate(together.terms):
        torch.testing.assert_close(
            bound.values, torch.cat([s.terms[place].values for s in singles]), rtol=1e-12, atol=1e-12
        )
    xyz = [embed(m, 2, seed=0) if m.n_atoms > 1 else np.zeros((2, 1, 3)) for m in molecules]
    joint = energy(together, torch.from_numpy(np.concatenate(xyz, axis=1)))
    for number, (single, x) in enumerate(zip(singles, xyz, strict=True)):
        alone, stop = energy(single, torch.from_numpy(x)), start + x.shape[1]
        torch.testing.assert_close(joint.energy[:, number], alone.energy[:, 0], rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(joint.forces[:, start:stop], alone.forces, rtol=1e-10, atol=1e-10)
        start = stop


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_rotation_and_translation(model, seed):
    from scipy.spatial.transform import Rotation

    molecule = from_smiles("CC(=O)Nc1ccc(O)cc1")
    rotation = torch.from_numpy(Rotation.random(random_state=seed).as_matrix().copy())
    xyz = torch.from_numpy(embed(molecule, 1, seed=0))
    system = model.parametrize(molecule)
    a, b = energy(system, xyz), energy(system, xyz @ rotation.T + 5.0)
    assert float(a.energy - b.energy) == pytest.approx(0.0, abs=1e-9)
    torch.testing.assert_close(b.forces, a.forces @ rotation.T, rtol=1e-9, atol=1e-8)
    assert float(a.forces.sum(1).abs().max()) < 1e-8
    assert float(torch.linalg.cross(xyz, a.forces).sum(1).abs().max()) < 1e-7


class TestDomain:
    def test_environments(self):
        assert sorted(set(environments(from_smiles("CO")))) == ["C(HHHO)", "H(C)", "H(O)", "O(CH)"]

    def test_unseen_element_is_refused_and_unseen_environment_reported(self):
        domain = ChemicalDomain.of([from_smiles("CCO"), from_smiles("C[NH3+]")])
        assert domain.check(from_smiles("CCO")) == ()
        assert any("C(CCHO)" in w for w in domain.check(from_smiles("CC(C)O")))
        assert any("net charge" in w for w in domain.check(from_smiles("CC(=O)[O-]")))
        with pytest.raises(DomainError, match="never trained on Br"):
            domain.check(from_smiles("CBr", "bromide"))


def test_one_copy_in_float64_has_the_present_weights():
    made, molecule = from_config(CONFIG), from_smiles("CCO")
    first, copy = made.parametrize(molecule), made.in_float64()
    with torch.no_grad():
        made.encoder.enter.weight.mul_(1.5)
    second = made.parametrize(molecule)
    assert made.in_float64() is copy
    assert next(made.parameters()).dtype == torch.float32
    other = from_config(CONFIG)
    other.load_state_dict(made.state_dict())
    for before, after, expected in zip(first.terms, second.terms, other.parametrize(molecule).terms, strict=True):
        assert after.values.dtype == F64
        assert torch.equal(after.values, expected.values)
        assert before.values.numel() == 0 or not torch.equal(after.values, before.values)


class TestCharges:
    def test_given_charges_replace_the_models(self, model):
        q = np.array([-0.8, 0.4, 0.4005])
        system = model.parametrize(from_smiles("O"), charges=q)
        values = system.bound("Coulomb").values[:, 0].numpy()
        assert values.sum() == pytest.approx(0.0, abs=1e-12)
        assert values == pytest.approx(q - 0.0005 / 3)

    @pytest.mark.parametrize(
        ("q", "message"),
        [([0.1, 0.2], "expected 3 charges"), ([-0.8, 0.4, 0.9], "formal charge is"), ([np.nan, 0, 0], "not finite")],
    )
    def test_wrong_charges_are_refused(self, q, message):
        with pytest.raises(ValueError, match=message):
            fit_to_formal(from_smiles("O", "water"), np.array(q))


class TestFile:
    def test_round_trip(self, tmp_path):
        path, molecule, model = tmp_path / "m.espalike", from_smiles("CC(=O)O"), from_config(CONFIG)
        model.save(path)
        before, after = model.parametrize(molecule), load(path).parametrize(molecule)
        assert all(torch.equal(a.values, b.values) for a, b in zip(before.terms, after.terms, strict=True))
        assert [p.name for p in tmp_path.iterdir()] == ["m.espalike"]

    def write(self, path, tensors=None, **changes):
        header = {
            "format_version": VERSION, "members": 1, "units": {}, "features": list(FEATURES), "config": CONFIG,
            "domain": {"elements": [], "environments": [], "charges": [0, 0]},
            "data": [], "split": {}, "figures": {}, "notes": {},
        }  # fmt: skip
        tensors = from_config(CONFIG).state_dict() if tensors is None else tensors
        save_file(tensors, path, metadata={"espalike": json.dumps({**header, **changes})})
        return path

    def test_other_format_version(self, tmp_path):
        assert describe(self.write(tmp_path / "good.espalike"))["format_version"] == VERSION
        with pytest.raises(ModelFileError, match="model format 99; this version reads formats 1 to 3"):
            load(self.write(tmp_path / "new.espalike", format_version=99))

    def test_columns_are_found_by_the_names_of_features(self, tmp_path):
        """A file that has fewer features, in another order, gives the same model; new features weigh nothing."""
        torch.manual_seed(3)
        tensors, names = from_config(CONFIG).state_dict(), list(FEATURES)
        (key,) = [key for key in tensors if key.endswith(INPUT_LAYER)]
        tensors[key][:, names.index("linear")] = 0.0
        complete = load(self.write(tmp_path / "complete.espalike", tensors))
        order = np.random.default_rng(0).permutation(len(names))
        order = order[order != names.index("linear")]
        older = {**tensors, key: tensors[key][:, order].clone()}
        path = self.write(tmp_path / "older.espalike", older, features=[names[i] for i in order])
        for a, b in zip(complete.state_dict().values(), load(path).state_dict().values(), strict=True):
            assert torch.equal(a, b)
        load(path).save(tmp_path / "again.espalike")
        assert describe(tmp_path / "again.espalike")["features"] == names

    def test_features_that_this_version_lacks(self, tmp_path):
        names = [*FEATURES[:-1], "spin"]
        with pytest.raises(ModelFileError, match=r"f\.espalike .* does not compute: spin"):
            load(self.write(tmp_path / "f.espalike", features=names))
        with pytest.raises(ModelFileError, match="do not fit the 2 atom features"):
            load(self.write(tmp_path / "f.espalike", features=["pi", "linear"]))

    def test_weights_that_do_not_fit(self, tmp_path):
        with pytest.raises(ModelFileError, match="weights do not fit"):
            load(self.write(tmp_path / "w.espalike", config={**CONFIG, "width": 8}))

    @pytest.mark.parametrize(
        "target",
        [
            "os.system",
            "builtins.eval",
            "subprocess.Popen",
            "espalike.model.os.system",
            "espalike.model.load",
            "espalike.cli.main.main",
            "espalike_evil.Layer",
            "torch.nn.modules.module.torch.load",
            "torch.hub.load",
        ],
    )
    def test_hostile_target(self, tmp_path, target):
        bait = tmp_path / "bait"
        config = {**CONFIG, "conv": {"_target_": target, "command": f"touch {bait}", "args": f"touch {bait}"}}
        with pytest.raises(UntrustedTarget):
            load(self.write(tmp_path / "evil.espalike", config=config))
        assert not bait.exists()

    def test_a_package_that_is_not_a_plugin(self):
        """The message has the lines of pyproject.toml that make it one."""
        with pytest.raises(
            UntrustedTarget, match=r"of espalike, torch\.nn, dgl\.nn.* are built\. If you trust"
        ) as error:
            from_config({**CONFIG, "conv": {"_target_": "my_layers.convs.Conv", "_partial_": True}})
        lines = '    [project.entry-points."espalike.plugins"]\n    my_layers = "my_layers"\n'
        assert lines in str(error.value)
        with pytest.raises(UntrustedTarget, match=r"are built$"):
            from_config({**CONFIG, "conv": {"_target_": "os.system"}})

    def test_hostile_pickle(self, tmp_path):
        bait = tmp_path / "bait"

        class Evil:
            def __reduce__(self):
                return (bait.touch, ())

        for name, content in {"p": pickle.dumps(Evil()), "empty": b"", "text": b"not a model"}.items():
            path = tmp_path / f"{name}.espalike"
            path.write_bytes(content)
            with pytest.raises(ModelFileError, match="not an espalike model file"):
                load(path)
        torch.save({"x": Evil()}, tmp_path / "t.espalike")
        with pytest.raises(ModelFileError, match="pickled checkpoints are never loaded"):
            load(tmp_path / "t.espalike")
        assert not bait.exists()

    def test_tensors_without_a_description(self, tmp_path):
        save_file({"a": torch.zeros(1)}, tmp_path / "a.espalike")
        with pytest.raises(ModelFileError, match="no espalike model description"):
            load(tmp_path / "a.espalike")

    @pytest.mark.parametrize(
        ("text", "message"), [("{", "damaged"), ("[1]", "damaged"), ('{"format_version": 1}', "lacks config")]
    )
    def test_damaged_description(self, tmp_path, text, message):
        save_file({"a": torch.zeros(1)}, tmp_path / "a.espalike", metadata={"espalike": text})
        with pytest.raises(ModelFileError, match=message):
            load(tmp_path / "a.espalike")

    def test_missing_file_names_the_models_at_hand(self):
        with pytest.raises(FileNotFoundError, match="give a file or one of"):
            load("espalike-huge")


def test_a_force_field_lists_each_term_once():
    with pytest.raises(ValueError, match="each term once"):
        from_config({**CONFIG, "terms": CONFIG["terms"][:1] * 2})
