"""Training from a model: its weights and levels of theory, frozen parts, provenance."""

import pytest
import torch

from espalike.batch import batch_of
from espalike.chem import from_smiles
from espalike.model import ChemicalDomain, from_config
from espalike.training.lightning import TrainingModule
from espalike.training.objective import Objective
from espalike.training.start import add_history, copied, freeze, untrained, with_force_field_of
from tests.batches import collate
from tests.training.common import CONFIG, item

LEARNED = {"_target_": "espalike.terms.coulomb.Coulomb", "scale14": "learned"}


def made(levels=("dft",), terms=None):
    torch.manual_seed(0)
    return from_config({**CONFIG, "levels": list(levels), "terms": terms or CONFIG["terms"]})


@pytest.fixture
def batch():
    return batch_of([from_smiles("CC(=O)N"), from_smiles("CO")], torch.float32)


def values(model, batch):
    with torch.no_grad():
        return {bound.term.name: bound.values.clone() for bound in model(batch).terms}


def test_weights_are_taken_over_and_levels_keep_their_shift(batch):
    from dataclasses import replace

    start = made(["dft", "xtb", "mp2"])
    model = copied(start, ["dft", "mp2", "hf"])
    assert model.levels == ("dft", "mp2", "hf")
    assert model.provenance.config["levels"] == ["dft", "mp2", "hf"]

    def at(which, level):
        return values(which, replace(batch, level=torch.full((2,), level)))

    for ours, theirs in ((0, 0), (1, 2)):
        after, before = at(model, ours), at(start, theirs)
        torch.testing.assert_close(after, before, rtol=1e-6, atol=1e-6)  # several threads may sum in another order
    after, before = at(model, 2)["HarmonicBond"], at(start, 1)["HarmonicBond"]
    assert not torch.equal(after, before)  # hf is not xtb
    torch.testing.assert_close(after[:, 0], before[:, 0])  # force constants have no shift


def test_another_form_takes_over_the_weights_of_what_both_have(batch):
    """The double exponential has the head of sigma and epsilon; increments are another head than equilibration."""
    start = made(["dft", "xtb"], [*CONFIG["terms"][:-1], LEARNED])
    with torch.no_grad():
        start.heads.get_parameter("Coulomb_scale14").add_(0.5)
    dexp = {"_target_": "espalike.terms.double_exponential.DoubleExponential"}
    model = copied(start, ["dft", "xtb"], [dexp, *CONFIG["terms"][:-2], LEARNED])  # in another order
    before, after = values(start, batch), values(model, batch)
    assert untrained(model, start) == []
    assert torch.equal(after["DoubleExponential"][:, :2], before["LennardJones"])
    for name in ("HarmonicBond", "HarmonicAngle", "PeriodicProper", "PeriodicImproper", "Coulomb"):
        assert torch.equal(after[name], before[name])
    own = {"_target_": "espalike.terms.lennard_jones.LennardJones", "within": "learned"}
    model = copied(start, ["dft", "xtb"], [own, *CONFIG["terms"][:-2], LEARNED])
    after = values(model, batch)
    assert untrained(model, start) == ["LennardJones"]
    assert torch.equal(after["LennardJones"][:, :2], before["LennardJones"][:, :2])
    assert not after["LennardJones"][:, 2:4].any()  # pairs of one molecule begin with the parameters of all pairs
    assert torch.equal(after["Coulomb"], before["Coulomb"])
    increments = {"_target_": "espalike.terms.coulomb.Coulomb", "charges": "increments"}
    model = copied(start, ["dft", "xtb"], [*CONFIG["terms"][:-1], increments])
    assert untrained(model, start) == ["Coulomb"]
    assert torch.equal(values(model, batch)["LennardJones"], before["LennardJones"])
    assert not torch.equal(values(model, batch)["Coulomb"][:, 0], before["Coulomb"][:, 0])


def test_only_terms_with_parameters_of_the_start_are_pulled():
    """Charges of a head that begins untrained are no goal."""
    start = made()
    increments = {"_target_": "espalike.terms.coulomb.Coulomb", "charges": "increments"}
    model = copied(start, ["dft"], [*CONFIG["terms"][:-1], increments])
    data = collate([item("CCO", 3), item("CC(=O)N", 2)])
    pulls = []
    for names in ((), ("Coulomb",)):
        module = TrainingModule(model, Objective(pull=1.0), torch.optim.Adam, ["a"], untrained=names)
        with torch.no_grad():
            for parameter in model.heads[-1].parameters():
                parameter.add_(0.1)  # charges move, nothing else
            system, prediction = module.predict(data, training=False)
            pulls.append(float(module.losses(system, prediction, data)["pull"]))
    assert pulls[0] > 1e-3
    assert pulls[1] == 0.0


def trained(model, batch):
    """Parameters after a few steps that would move all of them."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        sum((bound.values.double() ** 2).sum() for bound in model(batch).terms).backward()
        optimizer.step()
    return values(model, batch)


def moved(model, batch):
    before = values(model, batch)
    after = trained(model, batch)
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_frozen_terms_stay_exactly_where_they_are(batch):
    model = made()
    freeze(model, ["encoder", "pair", "HarmonicBond"])
    assert moved(model, batch) == {"HarmonicAngle", "PeriodicProper", "PeriodicImproper"}


def test_one_name_needs_no_list(batch):
    model = made()
    freeze(model, "encoder")
    assert not any(weight.requires_grad for weight in model.encoder.parameters())


def test_a_frozen_encoder_leaves_the_heads(batch):
    model = made()
    freeze(model, ["encoder"])
    kept = {name: value.clone() for name, value in model.encoder.state_dict().items()}
    assert moved(model, batch) == {term.name for term in model.terms}
    assert all(torch.equal(value, kept[name]) for name, value in model.encoder.state_dict().items())


def test_universal_parameters_freeze_with_their_term(batch):
    model = made(terms=[*CONFIG["terms"][:-1], LEARNED])
    freeze(model, ["encoder", "Coulomb"])
    assert "Coulomb" not in moved(model, batch)


def test_parts_that_cannot_be_frozen_are_refused():
    with pytest.raises(ValueError, match=r"the model has no Morse; it has .*HarmonicBond.*bond.*encoder"):
        freeze(made(), ["Morse"])
    with pytest.raises(ValueError, match="leaves nothing to train"):
        freeze(made(), ["encoder", "bond", "angle", "proper", "improper", "pair"])
    shared = made(terms=[*CONFIG["terms"], {"_target_": "espalike.terms.angle.UreyBradley"}])
    with pytest.raises(ValueError, match="HarmonicAngle, UreyBradley share one network"):
        freeze(shared, ["UreyBradley"])
    freeze(shared, ["angle"])


def with_history(tmp_path):
    """A model, and one that was trained from it."""
    start, model = made(), made()
    start.provenance.domain = ChemicalDomain((1, 6, 17), ("C(HHHH)",), (-1, 0), {"[C]": 5, "[Cl]": 2})
    start.provenance.data = [{"name": "old", "hash": "a"}, {"name": "same", "hash": "b"}]
    start.provenance.split = {"train": ["K1", "K2"], "val": ["K3", "K4"]}
    start.save(tmp_path / "start.espalike")
    model.provenance.domain = ChemicalDomain((1, 8), ("O(HH)",), (0, 1), {"[C]": 3, "[O]": 1})
    model.provenance.data = [{"name": "same", "hash": "b"}]
    model.provenance.split = {"train": ["K3"], "val": ["K1", "K5"]}
    add_history(model, start, str(tmp_path / "start.espalike"))
    return start, model


def test_history_is_kept(tmp_path):
    start, model = with_history(tmp_path)
    history = model.provenance
    counts = {"[C]": 5, "[Cl]": 2, "[O]": 1}  # two runs may share molecules
    assert history.domain == ChemicalDomain((1, 6, 8, 17), ("C(HHHH)", "O(HH)"), (-1, 1), counts)
    model.provenance.domain = ChemicalDomain((1, 8), ("O(HH)",), (0, 1))  # of complexes alone
    add_history(model, start, str(tmp_path / "start.espalike"))
    assert model.provenance.domain.counts == {"[C]": 5, "[Cl]": 2}
    start.provenance.domain = ChemicalDomain((1, 6), ("C(HHHH)",), (0, 0))  # of a file without counts
    add_history(model, start, str(tmp_path / "start.espalike"))
    assert model.provenance.domain.counts == {}


def test_history_of_data(tmp_path):
    start, model = with_history(tmp_path)
    history = model.provenance
    assert [store["name"] for store in history.data] == ["same", "old"]
    assert history.split == {"train": ["K1", "K2", "K3"], "val": ["K4", "K5"]}  # once trained on is no validation
    assert len(history.notes["start"]["sha256"]) == 64
    assert start.provenance.split == {"train": ["K1", "K2"], "val": ["K3", "K4"]}


def test_the_run_takes_force_field_and_network(tmp_path):
    start = made(["dft", "xtb"])
    start.provenance.notes["forcefield"] = "mine"
    start.save(tmp_path / "start.espalike")
    plain = {"forcefield": {"name": "other", "term": {}}, "conv": "gat", "model": {"width": 999}, "seed": 7}
    result = with_force_field_of(str(tmp_path / "start.espalike"), plain)
    assert result["model"] == {"width": 16, "layers": 2, "hidden": 16}
    assert result["conv"] == CONFIG["conv"]
    assert result["forcefield"]["name"] == "mine"
    assert list(result["forcefield"]["term"].values()) == CONFIG["terms"]
    assert result["seed"] == 7
    assert plain["conv"] == "gat"


def configured(**network):
    """A configuration as hydra composes it: that of `made()`, with some settings of the network changed."""
    terms = {term["_target_"].rpartition(".")[2].lower(): term for term in CONFIG["terms"]}
    sizes = {key: CONFIG[key] for key in ("width", "layers", "hidden")}
    return {
        "forcefield": {"name": "class1", "term": terms},
        "conv": CONFIG["conv"],
        "model": {**sizes, "readout": "deep", **network},
    }


@pytest.fixture
def saved(tmp_path):
    made().save(tmp_path / "start.espalike")
    return tmp_path / "start.espalike"


def test_settings_that_were_not_chosen_are_replaced(saved):
    plain = configured(width=64, readout="lean") | {"seed": 3}
    del plain["forcefield"]["term"]["coulomb"]
    taken = with_force_field_of(saved, plain, ["seed", "optimizer", "model.layers"])
    assert taken["model"] == {key: CONFIG[key] for key in ("width", "layers", "hidden")}
    assert list(taken["forcefield"]["term"].values()) == CONFIG["terms"]
    assert taken["seed"] == 3


def test_the_force_field_may_be_another_one_on_request(saved):
    dexp = {"_target_": "espalike.terms.double_exponential.DoubleExponential"}
    other = configured() | {"forcefield": {"name": "mine", "term": {"dexp": dexp}}, "convert": True}
    taken = with_force_field_of(saved, other, ["forcefield"])
    assert taken["forcefield"] == {"name": "mine", "term": {"dexp": dexp}}
    with pytest.raises(ValueError, match=r"its model.width is 16, not 64"):  # the network stays the model's
        with_force_field_of(saved, configured(width=64) | {"convert": True}, ["model.width"])
    with pytest.raises(ValueError, match=r"it has HarmonicBond.* change the force field with convert=true"):
        with_force_field_of(saved, other | {"convert": False}, ["forcefield"])


def test_chosen_settings_that_equal_the_models_are_accepted(saved):
    asked = ["forcefield", "conv", "model", "model.readout", "forcefield.term.coulomb.scale14"]
    assert with_force_field_of(saved, configured(), asked)["conv"] == CONFIG["conv"]


@pytest.mark.parametrize(
    ("asked", "change", "message"),
    [
        ("model", {"model": {"width": 64, "layers": 2, "hidden": 64}},
         "its model.width is 16, not 64; its model.hidden is 16, not 64"),
        ("model.readout", {"model": {"readout": "lean", "width": 64}}, "its model.readout is deep, not lean"),
        ("conv", {"conv": {"_target_": "espalike.nn.convs.GIN", "_partial_": True}},
         "it has SAGE, not GIN. Leave"),
        ("forcefield", {"forcefield": {"term": {"b": {"_target_": "espalike.terms.bond.MorseBond"}}}},
         "it has no MorseBond; it has HarmonicBond; it has HarmonicAngle"),
        ("forcefield.term.coulomb", {"forcefield": {"term": {}}}, "it has HarmonicBond; it has HarmonicAngle"),
        ("forcefield.term.c.scale14", {"forcefield": {"term": {"c": LEARNED}}},
         "its forcefield.term.Coulomb.scale14 is 0.8333333333333334, not learned. Leave"),
    ],
)  # fmt: skip
def test_chosen_settings_that_differ_from_the_models_are_refused(saved, asked, change, message):
    advice = "Leave these settings out, change the force field with convert=true, or train without start"
    with pytest.raises(ValueError, match=f"start=.* {advice}") as error:
        with_force_field_of(saved, configured() | change, [asked, "seed"])
    assert f"differ from these settings: {message}" in str(error.value)
