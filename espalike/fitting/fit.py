"""The fit: a general model trained further on the labels of a few molecules, with a pull to its parameters."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from espalike import files, settings
from espalike.data.store import Store
from espalike.model import find
from espalike.training.resume import was_interrupted
from espalike.training.run import CHECKPOINT, MODEL, train

_MARK = "fitted-from.txt"


def fit(start: str, stores: Sequence[Store], out: Path, epochs: int, overrides: Sequence[str] = ()) -> Path:
    """Train a model further on stores (`experiment=bespoke`).

    A finished fit to the same labels is taken as it is; one that was interrupted is continued. If the model is not the
    one that the fit wrote, the fit is made anew.

    Args:
        start: shipped name or file of the model.
        stores: the labels.
        out: folder of the fit.
        epochs: how often each label is used.
        overrides: more settings of `espalike train`.

    Returns:
        The model file, whose name holds a digest of its content: what depends on it is made anew if it changes.
    """
    model = _fitted(start, stores, out, epochs, overrides)
    path = _copy(model)
    files.write(path, model.read_bytes())
    return path


def _copy(model: Path) -> Path:
    """The copy of a model that is made when its fit has finished; another model in its place has none."""
    return model.with_name(f"model-{hashlib.sha256(model.read_bytes()).hexdigest()[:12]}.espalike")


def _fitted(start: str, stores: Sequence[Store], out: Path, epochs: int, overrides: Sequence[str]) -> Path:
    chosen = {
        "start": start,
        "data.stores": [str(store.path) for store in stores],
        "data.labels_dir": str(out / "folded"),
        "out": str(out),
        "trainer.max_epochs": epochs,
        "trainer.check_val_every_n_epoch": min(10, epochs),
    }
    composed = settings.compose("train", ["experiment=bespoke", *settings.overrides_of(chosen), *overrides])
    source = hashlib.sha256(Path(find(start)).read_bytes()).hexdigest()
    mark = json.dumps([composed, [store.hash for store in stores], source])
    composed["trainer"]["enable_progress_bar"] = sys.stderr.isatty()
    is_same = (out / _MARK).is_file() and (out / _MARK).read_bytes() == mark.encode()
    if is_same and was_interrupted(out / CHECKPOINT):
        composed["resume"] = "auto"
    elif is_same and (out / MODEL).is_file() and _copy(out / MODEL).is_file():
        return out / MODEL
    else:
        if out.exists():
            shutil.rmtree(out)
        out.mkdir(parents=True)
        files.write(out / _MARK, mark)
    try:
        return train(composed, say=_silent).model
    except InterruptedError as stop:
        raise InterruptedError("the fit was stopped; the same command continues it") from stop


def _silent(message: str) -> None:
    """Discard a message about training; the report has what matters."""
