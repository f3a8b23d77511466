"""Model files: a changed one is refused with the file's name, or is the model that was written; nothing is cast."""

import torch
from hypothesis import strategies as st

from espalike.model import load
from tests.fuzz.changes import changed_bytes, changed_values
from tests.fuzz.guard import amounts, bounded, explore, limited
from tests.test_model_files import MOLECULE, saved, unsealed, written  # noqa: F401 - a fixture

VALUES = [
    None, True, False, -1, 0, 2, 10**9, 10**30, 0.5, 1e308, float("inf"), float("nan"), "", "x", "learned", "os.system",
    [], [10**9], {}, {"x": 1}, {"_target_": "os.system"}, {"_target_": "torch.nn.Linear", "_partial_": True},
]  # fmt: skip
CHANGES = {
    "int8": lambda v: v.to(torch.int8),
    "bool": lambda v: v.bool(),
    "complex": lambda v: v.to(torch.complex64),
    "half": lambda v: v.half(),
    "double": lambda v: v.double(),
    "nan": lambda v: v * torch.nan,
    "huge": lambda v: v * 1e30,
    "shifted": lambda v: v + 1e3,
    "flat": lambda v: v.flatten(),
    "longer": lambda v: torch.cat([v.flatten(), v.flatten()]),
    "empty": lambda v: v.flatten()[:0],
}


def outcome(path, sealed, expected):
    """Load and parametrize: an error with the file's or the molecule's name, or a model; the expected one if sealed."""
    with limited(), bounded():
        try:
            model = load(path)
        except (ValueError, ImportError) as error:
            assert path.name in str(error)
            return
        try:
            system = model.parametrize(MOLECULE)
        except ValueError as error:
            assert not sealed
            assert "acetamide" in str(error)
            return
    assert not sealed or all(torch.equal(a.values, b.values) for a, b in zip(system.terms, expected.terms, strict=True))


@amounts(few=50, share=0.1)
def test_any_change_is_refused_or_makes_no_difference(written, tmp_path, examples):  # noqa: F811
    path, header, tensors = written
    expected = load(path).parametrize(MOLECULE)

    def check(data: st.DataObject) -> None:
        sealed = data.draw(st.booleans())
        changed, weights = header if sealed else unsealed(header), tensors
        kind = data.draw(st.sampled_from(["description", "weights", "names"]))
        if kind == "description":
            changed = changed_values(data, changed, VALUES)
        else:
            name = data.draw(st.sampled_from(sorted(tensors)))
            weights = dict(tensors)
            if kind == "names":
                weights["x"] = weights.pop(name)
            else:
                change = CHANGES[data.draw(st.sampled_from(sorted(CHANGES)))]
                weights[name] = change(weights[name]).contiguous()
        outcome(saved(tmp_path / "odd.espalike", changed, weights), sealed and kind != "description", expected)

    explore(check, examples)


@amounts(few=30, share=0.05)
def test_any_changed_byte_is_refused_or_makes_no_difference(written, tmp_path, examples):  # noqa: F811
    path, _, _ = written
    content, expected = path.read_bytes(), load(path).parametrize(MOLECULE)
    odd = tmp_path / "odd.espalike"

    def check(data: st.DataObject) -> None:
        odd.write_bytes(changed_bytes(data, content))
        outcome(odd, True, expected)

    explore(check, examples)
