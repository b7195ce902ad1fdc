"""The tiny base, opened, and its encoder."""

import pytest

from coldfusion_fl.model.base import open_base
from coldfusion_fl.model.encoder import load_encoder


@pytest.fixture(scope="module")
def base(tiny_base):
    return open_base(str(tiny_base))


@pytest.fixture(scope="module")
def encoder(base):
    return load_encoder(base)
