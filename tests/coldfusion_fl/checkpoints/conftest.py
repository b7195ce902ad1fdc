"""Checkpoints of the tiny base."""

import functools

import pytest
from tiny_models import make_checkpoint


@pytest.fixture
def checkpoint(tiny_base, tmp_path):
    """Makes a checkpoint of the tiny base in a folder of this name; see `make_checkpoint`."""

    def make(name, seed=0, base=tiny_base, **more):
        return str(make_checkpoint(tmp_path / name, base, seed, **more))

    return make


@pytest.fixture(scope="session")
def three(tiny_base, tmp_path_factory):
    """Three checkpoints with heads of different sizes, which a test must not change."""
    folder = tmp_path_factory.mktemp("three")
    make = functools.partial(make_checkpoint, base=tiny_base)
    return [str(make(folder / f"labels-{labels}", seed=labels, num_labels=labels)) for labels in (2, 3, 5)]
