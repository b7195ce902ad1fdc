"""The tiny base, opened, its encoder, and checkpoints of it."""

import functools
from types import MappingProxyType

import pytest
import torch
from tiny_models import make_checkpoint

from coldfusion_fl.data.task import load_task
from coldfusion_fl.model.base import open_base
from coldfusion_fl.model.encoder import load_encoder

# The models are so small that handing work to a second thread takes longer than the work.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def base(tiny_base):
    return open_base(str(tiny_base))


@pytest.fixture(scope="session")
def encoder(base):
    """Shared by all tests, which must not change it."""
    return MappingProxyType(load_encoder(base))


@pytest.fixture(scope="session")
def task(toy_data):
    """A classification task."""
    return load_task("b", (str(toy_data / "toy.toml"),))


@pytest.fixture(scope="session")
def regression(tmp_path_factory):
    """A task whose label is a number."""
    folder = tmp_path_factory.mktemp("regression")
    lines = [f'{{"text": "{"cat " * (i % 5 + 1)}", "label": {i % 5}}}' for i in range(200)]
    # A number makes each text different, because equal texts are reduced to one.
    lines = [line.replace('cat "', f'cat {i}"') for i, line in enumerate(lines)]
    (folder / "rows.jsonl").write_text("\n".join(lines))
    (folder / "c.toml").write_text('[tasks.r]\ntrain = "rows.jsonl"\nmetric = "spearman"')
    return load_task("r", (str(folder / "c.toml"),))


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
