"""The tiny base, opened, and its encoder."""

from types import MappingProxyType

import pytest
import torch

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
