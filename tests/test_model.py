"""The model: small molecules, domain, given charges, file."""

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from espalike import modelfile
from espalike.chem import from_smiles
from espalike.chem.charges import fit_to_formal
from espalike.domain import environments
from espalike.energy import energy
from espalike.features import FEATURES
from espalike.model import (
    ChemicalDomain,
    DomainError,
    ModelFileError,
    describe,
    from_config,
    load,
)
from espalike.modelfile import INPUT_LAYER, UNITS, VERSION
from espalike.nn.build import UntrustedTarget
from espalike.terms import priors
from tests.molecules import SMALL
from tests.nn import common
from tests.nn.common import F64
from tests.training.common import CONFIG


@pytest.fixture(scope="module")
def model():
    """An untrained model whose parameters differ visibly between atoms."""
    return common.model("class1")


@pytest.mark.parametrize("smiles", SMALL)
def test_small_molecules_have_parameters_and_their_charge(model, smiles):
    molecule = from_smiles(smiles)
    system = model.parametrize(molecule)
    assert all(bound.values.isfinite().all() for bound in system.terms)
    assert float(system.bound("Coulomb").values.sum()) == pytest.approx(molecule.net_charge, abs=1e-9)
    xyz = torch.randn(2, molecule.n_atoms, 3, dtype=F64) * 2
    prediction = energy(system, xyz)
    assert prediction.energy.isfinite().all()
    assert prediction.forces.isfinite().all()


class TestDomain:
    def test_environments(self):
        assert sorted(set(environments(from_smiles("CO")))) == ["C(HHHO)", "H(C)", "H(O)", "O(CH)"]

    def test_unseen_element_is_refused_and_unseen_environment_reported(self):
        domain = ChemicalDomain.of([from_smiles("CCO"), from_smiles("C[NH3+]")])
        assert domain.check(from_smiles("CCO")) == ()
        assert "atom 2 (C(C)(C)O): such surroundings were not in training" in domain.check(from_smiles("CC(C)O"))
        assert any("net charge" in w for w in domain.check(from_smiles("CC(=O)[O-]")))
        with pytest.raises(DomainError, match="never trained on Br"):
            domain.check(from_smiles("CBr", "bromide"))

    def test_a_domain_without_counts_compares_neighbour_elements(self):
        counted = ChemicalDomain.of([from_smiles("CCO"), from_smiles("C[NH3+]")])
        domain = ChemicalDomain(counted.elements, counted.environments, counted.charges)
        assert domain.check(from_smiles("CCO")) == ()
        assert domain.check(from_smiles("CC(C)O")) == ("atom 2: environment C(CCHO) was not in training",)
        assert "only elements of neighbours were compared" in domain.remarks(from_smiles("CCO"))[0]
        assert ChemicalDomain.from_header(counted.to_header()) == counted
        assert ChemicalDomain.from_header(domain.to_header()) == domain

    def test_molecules_of_complexes_alone_are_outside(self):
        domain = ChemicalDomain.of([from_smiles("CCO")], [from_smiles("FF"), from_smiles("[Na+]")])
        assert domain.check(from_smiles("CCO")) == ()
        assert domain.check(from_smiles("[Na+]")) == ()  # an ion has no bonded parameters
        assert "such surroundings were not in training" in domain.check(from_smiles("FF"))[0]
        assert 9 in domain.elements

    def test_rare_surroundings(self):
        alcohols, aldehyde = [from_smiles(f"{'C' * n}O") for n in (2, 3, 4)], from_smiles("CC=O")
        domain = ChemicalDomain.of([*alcohols, aldehyde])
        assert domain.counts["[OX2H1+0^3R0](-;!@[C+0^3R0])"] == 3
        assert domain.remarks(aldehyde) == ()  # in a small training set everything is rare
        domain = replace(domain, counts=domain.counts | {"[OX2H1+0^3R0](-;!@[C+0^3R0])": 400})
        rare = domain.remarks(aldehyde)
        assert rare[0] == "atom 1 (CC=O): such surroundings were in 1 training molecule"
        assert domain.check(aldehyde) == ()

    def test_five_or_six_neighbours(self):
        """Also where such molecules were in training: equal angles of the graph are unequal in space."""
        for smiles, atom in (("FS(F)(F)(F)(F)F", r"atom 2 \(S\) has 6"), ("FP(F)(F)(F)F", r"atom 2 \(P\) has 5")):
            molecule = from_smiles(smiles, "crowded")
            with pytest.raises(DomainError, match=rf"crowded: {atom} neighbours; angle terms cannot hold"):
                ChemicalDomain.of([molecule]).check(molecule)

    @pytest.mark.parametrize(
        ("smiles", "atom"),
        [
            ("FS(F)(F)F", r"atom 2 \(S\) has 4"),
            ("CS(C)(C)C", r"atom 2 \(S\) has 4"),
            ("Cl[I](Cl)Cl", r"atom 2 \(I\) has 3"),
            ("CS(O)(O)O", r"atom 2 \(S\) has 4"),  # a sulfonic acid that was read without its double bonds
            ("O=I1(O)OC(=O)c2ccccc12", r"atom 2 \(I\) has 4"),
        ],
    )
    def test_lone_pairs_that_take_the_place_of_neighbours(self, smiles, atom):
        """A seesaw and a T: of three equal neighbours, some are at 90° and some at 180°."""
        molecule = from_smiles(smiles, "crowded")
        with pytest.raises(DomainError, match=rf"crowded: {atom} neighbours; angle terms cannot hold"):
            ChemicalDomain.of([molecule]).check(molecule)

    @pytest.mark.parametrize("smiles", ["ClI(Cl)c1ccccc1", "I[I-]I", "CC(=O)OI(c1ccccc1)OC(C)=O"])
    def test_lone_pairs_that_the_graph_allows(self, smiles):
        """Neighbours that the graph tells apart, or two alone, may be learned; they follow from no other molecule."""
        molecule, others = from_smiles(smiles, "T"), [from_smiles(s) for s in ("Ic1ccccc1", "CCl", "CC(=O)O")]
        assert ChemicalDomain.of([molecule]).check(molecule) == ()
        with pytest.raises(
            DomainError, match=r"and lone pairs, with angles of 90° and 180°; such surroundings were not"
        ):
            ChemicalDomain.of(others).check(molecule)

    @pytest.mark.parametrize(
        "smiles",
        [
            "OS(=O)(=O)O", "CS(C)=O", "C[S+](C)C", "Cl[P+](Cl)(Cl)Cl", "F[B-](F)(F)F", "OCl(=O)(=O)=O", "O=S=O",
            "O=Ic1ccccc1", "CP(C)(C)=O", "C[S-]", "[I-]", "[Zn+2]",
        ],
    )  # fmt: skip
    def test_up_to_four_pairs_of_electrons(self, smiles):
        molecule = from_smiles(smiles)
        assert ChemicalDomain.of([molecule]).check(molecule) == ()


def test_one_copy_in_float64_has_the_present_weights():
    made, molecule = from_config(CONFIG), from_smiles("CCO")
    with torch.inference_mode():
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

    def test_charges_that_are_all_zero(self):
        with pytest.raises(ValueError, match="water: all given charges are zero"):
            fit_to_formal(from_smiles("O", "water"), np.zeros(3))
        assert not fit_to_formal(from_smiles("N#N", "nitrogen"), np.zeros(2)).any()


class TestFile:
    def write(self, path, tensors=None, **changes):
        header = {
            "format_version": VERSION, "members": 1, "units": UNITS, "features": list(FEATURES), "config": CONFIG,
            "domain": {"elements": [], "environments": [], "charges": [0, 0]},
            "data": [], "split": {}, "figures": {}, "notes": {},
        }  # fmt: skip
        tensors = from_config(CONFIG).state_dict() if tensors is None else tensors
        header = {**header, **changes}
        header["sha256"] = modelfile._digest(header, tensors)  # as if it was written so
        save_file(tensors, path, metadata={"espalike": json.dumps(header)})
        return path

    def test_other_format_version(self, tmp_path):
        assert describe(self.write(tmp_path / "good.espalike"))["format_version"] == VERSION
        with pytest.raises(ModelFileError, match="model format 99; this version reads formats 1 to 5"):
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


@pytest.mark.parametrize("name", ["espalike-1", "espalike-2"])
def test_a_loaded_model_can_be_pickled(name):
    """For processes."""
    model, ethanol = load(name), from_smiles("CCO")
    again = pickle.loads(pickle.dumps(model))
    for one, other in zip(again.parametrize(ethanol).terms, model.parametrize(ethanol).terms, strict=True):
        assert torch.equal(one.values, other.values)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_parameters_do_not_depend_on_the_default_dtype_at_loading(dtype):
    """Language models are often loaded with bfloat16 as the default; weights and priors were rounded to it."""
    ethanol = from_smiles("CCO")
    expected = load().parametrize(ethanol)
    before = torch.get_default_dtype()
    priors._lj_table.cache_clear()  # as in a process where the default was set first
    torch.set_default_dtype(dtype)
    try:
        system = load().parametrize(ethanol)
    finally:
        torch.set_default_dtype(before)
        priors._lj_table.cache_clear()
    for one, other in zip(system.terms, expected.terms, strict=True):
        assert torch.equal(one.values, other.values)


def test_loading_a_model_draws_none_of_the_callers_random_numbers():
    """Numbers that a script draws later must not depend on whether a model is loaded, or a template cached."""
    before = torch.get_rng_state()
    load()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_model_in_training_stays_in_training(dtype):
    ethanol = from_smiles("CCO")
    untrained = common.model("class1").to(dtype).train()
    expected = untrained.eval().parametrize(ethanol)
    untrained.train()
    system = untrained.parametrize(ethanol)
    assert all(module.training for module in untrained.modules())
    for one, other in zip(system.terms, expected.terms, strict=True):
        assert torch.equal(one.values, other.values)


def test_charges_of_several_molecules(model):
    water, charges = from_smiles("O", "water"), np.array([-0.8, 0.4, 0.4])
    for given in ([charges, charges], np.stack([charges, charges])):
        system = model.parametrize([water, water], given)
        np.testing.assert_allclose(system.bound("Coulomb").values[:, 0], [*charges, *charges])
    with pytest.raises(ValueError, match="for each of 1 molecules; got 3"):
        model.parametrize([water], charges)
    with pytest.raises(ValueError, match=r"water: expected 3 charges, one per atom; got an array of shape \(1, 3\)"):
        model.parametrize(water, [charges])


@pytest.mark.parametrize("molecule", ["CCO", ["CCO"], None])
def test_what_is_no_molecule_is_named(model, molecule):
    with pytest.raises(
        TypeError, match=r"expected an espalike.Molecule or several, got (str|NoneType); Molecule.from_"
    ):
        model.parametrize(molecule)
