"""Damaged model files: refused with the file's name, or the model that was written; nothing hangs, nothing is cast."""

import base64
import json
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from espalike import modelfile
from espalike.chem import from_smiles
from espalike.cli.main import main
from espalike.domain import ChemicalDomain
from espalike.model import ModelFileError, ParameterError, Provenance, from_config, load
from espalike.nn.build import bounded
from espalike.nn.heads import READOUTS
from tests.nn.common import FORCE_FIELDS
from tests.nn.common import model as model_of
from tests.training.common import CONFIG

MOLECULE = from_smiles("CC(=O)N", "acetamide")
SMALL = {**CONFIG, "width": 4, "hidden": 4, "levels": ["one", "other"]}
SECONDS = 10.0


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The path of a model file, its description and its weights."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("models") / "written.espalike"
    from_config(SMALL).save(path)
    return path, modelfile._header(path), load_file(path)


def test_a_model_file_has_the_permissions_of_any_other_file(written, tmp_path):
    (tmp_path / "text").write_text("")
    assert written[0].stat().st_mode == (tmp_path / "text").stat().st_mode


def test_networks_that_other_threads_build_do_not_count_as_a_files():
    """Two threads that loaded models at the same time got "more than 2476624 weights" now and then."""
    with bounded(1, 10), ThreadPoolExecutor(1) as other:
        assert other.submit(torch.nn.Linear, 100, 100).result().in_features == 100
        with pytest.raises(ValueError, match="more than 10 weights"):
            torch.nn.Linear(100, 100)


def saved(path, header, tensors):
    """A model file; a description without a hash gets that of this content, as if it was written so."""
    if isinstance(header, dict) and "sha256" not in header:
        header = {**header, "sha256": modelfile._digest(header, tensors)}
    return stored(path, header, tensors)


def stored(path, header, tensors):
    save_file(tensors, path, metadata={"espalike": json.dumps(header)})
    return path


def unsealed(header):
    """A description without the hash of the content."""
    return {name: value for name, value in header.items() if name != "sha256"}


def config(**changes):
    return {"config": {**SMALL, **changes}}


def coulomb(**settings):
    return config(terms=[*SMALL["terms"][:-1], {**SMALL["terms"][-1], **settings}])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"units": {"length": "nanometer", "energy": "kJ/mol", "charge": "e", "angle": "radian"}}, "units .*angstrom"),
        ({"units": {}}, "units .*angstrom"),
        ({"format_version": True}, "format True"),
        ({"members": 10**9}, "1000000000 members"),
        ({"members": 3}, "expected .* tensors, got"),
        ({"features": 5}, "features .* list"),
        ({"domain": {"elements": ["C"], "environments": [], "charges": [0, 0]}}, "domain"),
        ({"domain": {"elements": [], "environments": ["C(CCC)"], "charges": [0, 0]}}, "domain"),
        ({"domain": {"elements": [6], "environments": [], "charges": [1, 0]}}, "domain"),
        ({"split": {"train": 3}}, "split"),
        ({"surroundings": {"[OX2H2+0^3R0]": -1}}, "surroundings .* numbers of training molecules"),
        (config(layers=10**9), "more than .* weights"),
        (config(layers=1), "expected .* tensors"),
        (config(width=10**9), "gives no model"),
        (config(hidden=10**9), "gives no model"),
        (config(levels="ab"), "list of levels"),
        (config(conv=None), "a convolution"),
        (config(terms=[3]), "has terms"),
        (config(terms=10**9), "config .* list of terms"),
        (coulomb(scale14=-5), "scale14 is a number from 0 to 1"),
        (coulomb(scale14=float("inf")), "scale14 is a number from 0 to 1"),
        (coulomb(scale14=float("nan")), "scale14 is a number from 0 to 1"),
        (coulomb(scale14=True), "scale14 is a number from 0 to 1"),
        (coulomb(charges=["x"]), "unknown charge model"),
    ],
)
def test_a_description_that_cannot_be_meant(written, tmp_path, change, message):
    _, header, tensors = written
    path = saved(tmp_path / "odd.espalike", unsealed(header) | change, tensors)
    start = time.perf_counter()
    with pytest.raises(ModelFileError, match=rf"odd\.espalike.*{message}"):
        load(path)
    assert time.perf_counter() - start < SECONDS


@pytest.mark.parametrize(
    "change",
    [{"figures": {"test": 3}}, {"figures": {"validation": 3}}, {"notes": {"members": [3]}}, config(levels=3)],
)
def test_info_names_the_damaged_file(written, tmp_path, change, capsys):
    _, header, tensors = written
    path = saved(tmp_path / "odd.espalike", unsealed(header) | change, tensors)
    assert main(["info", str(path)]) == 2
    assert "odd.espalike: its model description is damaged" in capsys.readouterr().err


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.complex64, torch.float16, torch.int64])
def test_weights_of_another_type_are_not_cast(written, tmp_path, dtype):
    _, header, tensors = written
    (name,) = [name for name in tensors if name.endswith("heads.0.head.atom.weight")]
    odd = {**tensors, name: tensors[name].to(dtype)}
    with pytest.raises(ModelFileError, match=rf"odd\.espalike: its tensor {name} is of type"):
        load(saved(tmp_path / "odd.espalike", unsealed(header), odd))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1e30, -1e30])
def test_weights_that_are_not_finite_or_huge(written, tmp_path, value):
    """A huge weight can saturate a layer, whose parameters are then plausible."""
    _, header, tensors = written
    odd = {name: value.clone() for name, value in tensors.items()}
    odd["encoder.enter.weight"][1, 2] = value
    with pytest.raises(ModelFileError, match=r"odd\.espalike: its tensor encoder\.enter\.weight .* not finite"):
        load(saved(tmp_path / "odd.espalike", unsealed(header), odd))


def test_a_file_of_this_format_has_a_hash(written, tmp_path):
    """Weights of equal shape may be swapped, and nothing else would tell."""
    _, header, tensors = written
    with pytest.raises(ModelFileError, match=r"odd\.espalike: its model description lacks sha256"):
        load(stored(tmp_path / "odd.espalike", unsealed(header), tensors))


def test_a_file_of_this_format_has_its_number_of_members(written, tmp_path):
    _, header, tensors = written
    lacks = {name: value for name, value in unsealed(header).items() if name != "members"}
    with pytest.raises(ModelFileError, match=rf"odd\.espalike: of format {modelfile.VERSION}, with None members"):
        load(saved(tmp_path / "odd.espalike", lacks, tensors))


def test_one_model_gives_one_file(written, tmp_path):
    """safetensors writes the entries of its metadata in a random order."""
    model = load(written[0])
    for n in range(12):
        model.save(tmp_path / f"{n}.espalike")
    assert len({(tmp_path / f"{n}.espalike").read_bytes() for n in range(12)}) == 1


def test_a_changed_weight_is_noticed(written, tmp_path):
    _, header, tensors = written
    odd = {name: value.clone() for name, value in tensors.items()}
    odd["encoder.enter.weight"][1, 2] += 0.5
    with pytest.raises(ModelFileError, match=r"odd\.espalike: its content is not what was written"):
        load(saved(tmp_path / "odd.espalike", header, odd))


@pytest.mark.parametrize("name", modelfile.shipped())
def test_a_changed_bit_of_a_shipped_model_is_noticed(tmp_path, name):
    content = bytearray(modelfile.shipped()[name].read_bytes())
    for at in np.random.default_rng(0).integers(len(content) - 100_000, len(content), 3):
        changed = content.copy()
        changed[at] ^= 1  # the last bit of a byte of a weight
        (tmp_path / "odd.espalike").write_bytes(changed)
        with pytest.raises(ModelFileError, match=r"odd\.espalike: its (content is not what was|tensor)"):
            load(tmp_path / "odd.espalike")


@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("charges", ["equilibration", "increments"])
def test_every_readout_is_read_again(tmp_path, readout, charges):
    terms = [*SMALL["terms"][:-1], {**SMALL["terms"][-1], "charges": charges, "scale14": "learned"}]
    model = from_config({**SMALL, "terms": terms, "readout": readout})
    model.save(tmp_path / "m.espalike")
    for old, new in zip(model.parameters(), load(tmp_path / "m.espalike").parameters(), strict=True):
        assert torch.equal(old, new)


def test_absurd_weights_give_no_parameters(written, tmp_path):
    """The bias of the first output of bonds and angles is huge: bonds of 30 Å."""
    _, header, tensors = written
    odd = {n: value + 1e4 if n.endswith("head.tuple.3.bias") else value for n, value in tensors.items()}
    model = load(saved(tmp_path / "odd.espalike", unsealed(header), odd))
    with pytest.raises(ParameterError, match=r"acetamide: HarmonicBond r0 of atoms 1-2 is .* expected 0\.5 to 4\."):
        model.parametrize(MOLECULE)
    with pytest.raises(ParameterError, match=r"methanol: HarmonicBond r0 of atoms 1-2"):
        model.parametrize([from_smiles("[Na+]"), from_smiles("CO", "methanol")])


def test_charges_far_from_formal_charges():
    with pytest.raises(ParameterError, match=r"water: Coulomb q of atom 1 is -14\.4 e; expected -4 to 4\."):
        from_config(SMALL).parametrize(from_smiles("O", "water"), np.array([-14.4, 7.2, 7.2]))


@pytest.mark.parametrize("forcefield", FORCE_FIELDS)
def test_every_force_field_is_inside_the_ranges(forcefield):
    """Also with parameters far from their means, as these models have."""
    model, given_charges = model_of(forcefield), None
    if any(getattr(term, "charges", None) == "input" for term in model.terms):
        given_charges = np.linspace(-0.5, 0.5, MOLECULE.n_atoms)
    assert model.parametrize(MOLECULE, given_charges).n_mols == 1


def packed(content, level=9):
    return base64.b64encode(zlib.compress(content, level)).decode()


def test_long_lists_are_compressed(tmp_path):
    keys = [f"{key:014d}" for key in range(20_000)]
    split, counts = {"train": keys, "val": []}, {f"[#{key}]": 1 for key in range(1, 5000)}
    model = from_config(SMALL)
    domain = ChemicalDomain(elements=(6,), environments=(), charges=(0, 0), counts=counts)
    model.provenance = Provenance(config=model.provenance.config, domain=domain, split=split)
    model.save(tmp_path / "long.espalike")
    assert (tmp_path / "long.espalike").stat().st_size < 150_000 < len(json.dumps(split))
    read = load(tmp_path / "long.espalike").provenance
    assert read.split == split
    assert read.domain.counts == counts
    with safe_open(tmp_path / "long.espalike", framework="pt") as file:
        assert not {"split", "surroundings"} & set(json.loads(file.metadata()["espalike"]))


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ("%", "damaged"),
        ("AAAA", "cannot be decompressed"),
        (packed(b'{"split": {}}')[:-8], "lists are cut"),
        (packed(b'{"split": {}, "more": [' + b"0," * 10_000_000 + b"0]}"), "too long"),
        (packed(b"[1]"), "expected lists for split and surroundings"),
        (packed(b'{"config": {}}'), "expected lists for split and surroundings"),
        (packed(b"{"), "damaged"),
        (packed(b'{"surroundings": {}}'), "lacks split"),
        (packed(b'{"split": {"train": [1]}}'), "split in its description: expected lists of keys"),
        (packed(b'{"split": {"train": ["A"]}}'), "SHA-256 differs"),
    ],
)
def test_damaged_lists_are_refused(written, tmp_path, lists, message):
    _, header, tensors = written
    rest = {name: part for name, part in header.items() if name not in modelfile.LISTS}
    save_file(tensors, tmp_path / "bad.espalike", metadata={"espalike": json.dumps(rest), "lists": lists})
    with pytest.raises(ModelFileError, match=rf"bad\.espalike.*{message}"):
        load(tmp_path / "bad.espalike")
