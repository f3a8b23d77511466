"""Every reader there is, by its name on the command line."""

import inspect

import pytest
from hydra import compose, initialize_config_module
from hydra.errors import InstantiationException
from hydra.utils import get_class, instantiate

from espalike.data.readers.base import Reader
from tests.data.readers.suite import CONFIGS

NAMES = sorted(path.stem for path in CONFIGS.glob("*.yaml"))
WANTED = {"spice", "qcarchive", "espaloma", "grappa", "ani", "rmd17", "extxyz", "sdf", "forcebalance", "table", "hdf5"}


def test_the_formats_that_are_promised_are_there():
    assert set(NAMES) >= WANTED


@pytest.mark.parametrize("name", NAMES)
def test_the_command_line_reaches_every_option(name, tmp_path):
    with initialize_config_module("espalike.configs", version_base="1.3"):
        config = compose("ingest", [f"reader={name}", "out=store", f"reader.path={tmp_path / 'nothing.here'}"]).reader
    cls = get_class(config._target_)
    assert issubclass(cls, Reader)
    assert set(config) - {"_target_"} == set(inspect.signature(cls).parameters)
    with pytest.raises(InstantiationException, match=r"nothing\.here: no such file"):
        instantiate(config, _convert_="all")
