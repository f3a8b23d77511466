"""The cache of a template generator: used again where it is right, made again where it is not."""

import copy

import numpy as np
import openmm
import pytest
import torch

from espalike import chem
from espalike.export import EspalikeTemplateGenerator, template_cache, to_topology
from tests.export.cases import field_model, model
from tests.export.test_template import field


def test_cache_is_used_again_and_named_by_what_it_depends_on(tmp_path):
    def run(smiles="CCO", made=None, **options):
        generator = EspalikeTemplateGenerator(smiles, made or model(), tmp_path / "cache", **options)
        topology = to_topology(chem.from_smiles(smiles))
        built = [field(generator).createSystem(topology) for _ in range(2)]  # a second ForceField costs nothing
        texts = {openmm.XmlSerializer.serialize(system) for system in built}
        assert len(texts) == 1
        return (generator.hits, generator.misses), texts.pop()

    counts, first = run()
    assert counts == (0, 1)
    assert run() == ((1, 0), first)
    (file,) = (tmp_path / "cache").iterdir()
    whole = file.read_text()
    for damaged in (whole[:100], whole.replace("1", "2", 1), whole.replace('k="', 'k="1', 1), "", "\0" * 10):
        file.write_text(damaged)
        assert run() == ((0, 1), first)  # a damaged file is made anew
    assert run()[0] == (1, 0)
    assert run(charges=np.array([0.1, 0.1, -0.6, *[0.0] * 5, 0.4]))[0] == (0, 1)
    assert run("CCN")[0] == (0, 1)
    assert run(made="espalike-small")[0] == (0, 1)
    assert len(list((tmp_path / "cache").iterdir())) == 4
    other = next(path for path in (tmp_path / "cache").iterdir() if path.name[:16] != file.name[:16])
    file.write_bytes(other.read_bytes())  # whole, but of another model or molecule
    assert run() == ((0, 1), first)
    with pytest.raises(ValueError, match="cache is a directory"):
        EspalikeTemplateGenerator("CCO", model(), cache=file)


@pytest.mark.parametrize("cache", ["file/x", "folder"])
def test_a_cache_that_cannot_be_used_costs_no_result(cache, tmp_path, caplog):
    """No folder can be made below a file, and no file in the place of a folder: as on a disk without permission."""
    generator = EspalikeTemplateGenerator("CCO", model(), tmp_path / cache)
    (tmp_path / "file").touch()
    topology = to_topology(generator.ligands[0].molecule)
    expected = field(EspalikeTemplateGenerator("CCO", model())).createSystem(topology)
    if cache == "folder":
        generator.ffxml(generator.ligands[0])
        (file,) = (tmp_path / cache).iterdir()
        file.unlink()
        file.mkdir()
        generator = EspalikeTemplateGenerator("CCO", model(), tmp_path / cache)
    system = field(generator).createSystem(topology)
    assert openmm.XmlSerializer.serialize(system) == openmm.XmlSerializer.serialize(expected)
    assert "the template is not kept in the cache" in caplog.text


@pytest.mark.parametrize(
    "change",
    [
        ("</ForceField>", "<Script>raise SystemExit</Script></ForceField>"),
        ("</ForceField>", "<InitializationScript>raise SystemExit</InitializationScript></ForceField>"),
        ("</ForceField>", "<Include file='x.xml'/></ForceField>"),
        (
            "espalike_apply(sys, data, self, espalike_table)\n",
            "espalike_apply(sys, data, self, espalike_table)\nexit()\n",
        ),
        ("'exceptions': [", "'exceptions': [*exit()],  'other': ["),
        ("def espalike_apply", "exit()\n\n\ndef espalike_apply"),
    ],
)
def test_a_foreign_script_in_the_cache_is_refused(change, tmp_path):
    """With the right hash, which anyone can compute."""
    made, cache = field_model("class2"), tmp_path / "cache"
    EspalikeTemplateGenerator("CCO", made, cache).ffxml(EspalikeTemplateGenerator("CCO", made).ligands[0])
    (file,) = cache.iterdir()
    text = file.read_text().partition("\n")[2]
    assert text.count(change[0]) >= 1
    position = text.rindex(change[0])
    template_cache.write(file, text[:position] + change[1] + text[position + len(change[0]) :])
    generator = EspalikeTemplateGenerator("CCO", made, cache)
    with pytest.raises(
        ValueError, match=r"\.xml: its <\w+> is not espalike's, and OpenMM would run it; remove the file"
    ):
        generator.ffxml(generator.ligands[0])
    template_cache.write(file, text)
    assert generator.ffxml(generator.ligands[0]) == text


def test_a_model_that_was_trained_since_has_other_templates(tmp_path):
    """In the cache, too, where the former model would have found the parameters of the trained one."""
    molecule, trained = chem.from_smiles("CCO"), copy.deepcopy(model())
    former = copy.deepcopy(trained)
    generator = EspalikeTemplateGenerator(molecule, trained, cache=tmp_path)

    def charge(generator):
        system = field(generator).createSystem(to_topology(molecule))
        (force,) = (each for each in system.getForces() if isinstance(each, openmm.NonbondedForce))
        return force.getParticleParameters(0)[0]._value

    for _ in range(2):
        with torch.no_grad():
            for weight in trained.parameters():
                weight.mul_(0.8)
        now = float(trained.parametrize(molecule).bound("Coulomb").values[0, 0])
        assert charge(generator) == pytest.approx(now, abs=1e-9)
    before = float(former.parametrize(molecule).bound("Coulomb").values[0, 0])
    assert before != pytest.approx(now, abs=1e-4)
    assert charge(EspalikeTemplateGenerator(molecule, former, cache=tmp_path)) == pytest.approx(before, abs=1e-9)
