import copy
import math
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import ARCHITECTURES, make_base
from torch import nn
from transformers import AutoModel

from coldfusion_fl.model.base import open_base
from coldfusion_fl.model.encoder import MeanHeadModel, build_model, get_encoder, load_encoder, merge
from coldfusion_fl.training.fast_dropout import DropoutMasks, fast_dropout


@pytest.fixture(scope="module", params=sorted(ARCHITECTURES))
def model(request, tmp_path_factory):
    base = open_base(str(make_base(tmp_path_factory.mktemp("bases") / request.param, request.param)))
    model = build_model(base, 3, "mean", seed=0)
    merge(model, load_encoder(base))
    return model


def batch():
    """Texts of different lengths, so that the batch has padding."""
    ids = torch.tensor([[101, 1037, 4937, 1998, 1037, 102], [101, 7852, 102, 0, 0, 0]])
    return {"input_ids": ids, "attention_mask": (ids != 0).long(), "labels": torch.tensor([1, 2])}


@settings(max_examples=25, deadline=None)
@given(st.floats(0, 0.99), st.sampled_from([torch.float32, torch.bfloat16]), st.integers(0, 2**63 - 1))
def test_masks_drop_at_their_rate_and_keep_the_mean(rate, dtype, seed):
    mask = DropoutMasks(seed)(torch.empty(200, 300, dtype=dtype), rate)
    assert mask.dtype == dtype
    assert (mask == 0).float().mean().item() == pytest.approx(rate, abs=0.01)
    assert set(mask.unique().tolist()) <= {0.0, torch.tensor(1 / (1 - round(rate * 65536) / 65536), dtype=dtype).item()}
    assert mask.equal(DropoutMasks(seed)(torch.empty(200, 300, dtype=dtype), rate))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_masks_are_drawn_from_the_bits_of_numpys_generator(dtype):
    """A training must have the same masks, and weights, with every version of this software."""
    masks, generator = DropoutMasks(7), np.random.Generator(np.random.SFC64(7))
    # The second is drawn in blocks. After the last, whose number of elements is not a multiple of 4, numpy would go on
    # with the 32 bits that are left over, and a next mask here with new ones.
    for shape in ((3, 4), (2, 400_000), (5, 7, 4), (3, 7, 2)):
        bits = np.frombuffer(generator.bytes(2 * math.prod(shape)), np.uint16).reshape(shape)
        kept = torch.from_numpy(bits >= round(0.1 * 65536)).to(dtype) * (65536 / (65536 - round(0.1 * 65536)))
        assert masks(torch.empty(shape, dtype=dtype), 0.1).equal(kept)


def test_a_rate_close_to_one_keeps_almost_nothing():
    mask = DropoutMasks(0)(torch.empty(1000, 1000), 1 - 1e-9)
    assert 0 < (mask > 0).sum() < 60
    assert mask.isfinite().all()


def test_successive_masks_differ():
    masks = DropoutMasks(0)
    one, two = (masks(torch.empty(100), 0.5) for _ in range(2))
    assert not one.equal(two)


def test_without_dropped_elements_it_computes_pytorchs_attention(model, monkeypatch):
    """With masks that drop nothing, losses and gradients are the same, with padding and without."""
    monkeypatch.setattr(DropoutMasks, "__call__", lambda self, like, rate: torch.ones_like(like))
    undropped = copy.deepcopy(model)
    for module in undropped.modules():
        for name in ("p", "drop_prob", "attention_dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    for module in model.modules():  # the architecture's own kinds of dropout, which are not replaced
        if type(module) is not nn.Dropout and isinstance(getattr(module, "drop_prob", None), float):
            module.drop_prob = 0.0
    parts = [batch(), {name: value[:1] for name, value in batch().items()}]
    for part in parts:
        found = []
        for each in (undropped, model):
            each.train().zero_grad()
            with fast_dropout(each, 0) if each is model else nullcontext():
                loss = each(**part)["loss"]
                loss.backward()
            found.append((loss.item(), {n: p.grad for n, p in each.named_parameters() if p.grad is not None}))
        assert found[1][0] == pytest.approx(found[0][0], rel=1e-5)
        assert found[0][1].keys() == found[1][1].keys()
        for name, gradient in found[0][1].items():
            torch.testing.assert_close(found[1][1][name], gradient, rtol=1e-3, atol=1e-6)


def test_causal_attention_stays_causal(tmp_path):
    model = MeanHeadModel(AutoModel.from_pretrained(make_base(tmp_path / "gpt2", "gpt2")), 3)
    found = []
    for last in (102, 103):
        torch.manual_seed(0)
        ids = torch.tensor([[101, 1037, 4937, last]])
        with torch.no_grad(), fast_dropout(model.train(), 0):
            found.append(get_encoder(model)(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state)
    assert found[0][:, :3].equal(found[1][:, :3])
    assert not found[0][:, 3].equal(found[1][:, 3])


def test_berts_attention_uses_these_masks(tiny_base, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        DropoutMasks, "__call__", lambda self, like, rate: drawn.append(like.ndim) or torch.ones_like(like)
    )
    base = open_base(str(tiny_base))
    model = build_model(base, 3, "mean", seed=0)
    merge(model, load_encoder(base))
    with fast_dropout(model.train(), 0):
        model(**batch())
    layers = get_encoder(model).config.num_hidden_layers
    assert drawn.count(4) == layers  # of the attention's weights: batch, head, token, token
    assert drawn.count(3) == 1 + 2 * layers
    assert drawn.count(2) == 1


def test_it_drops_only_in_training_and_restores_the_model(tiny_base):
    base = open_base(str(tiny_base))
    model = build_model(base, 3, "mean", seed=0)
    merge(model, load_encoder(base))
    before = [(name, type(module)) for name, module in model.named_modules()]
    with torch.no_grad():
        usual = model.eval()(**batch())["logits"]
        with fast_dropout(model, 0):
            one, two = (model.train()(**batch())["logits"] for _ in range(2))
            torch.testing.assert_close(model.eval()(**batch())["logits"], usual)
            model.train()
        assert not one.equal(two)
        with fast_dropout(model, 0):
            assert model(**batch())["logits"].equal(one)
        assert model.eval()(**batch())["logits"].equal(usual)
    assert [(name, type(module)) for name, module in model.named_modules()] == before
    assert get_encoder(model).config._attn_implementation == "sdpa"


def test_the_attention_weights_are_dropped(tiny_base):
    base = open_base(str(tiny_base))
    model = build_model(base, 3, "mean", seed=0)
    merge(model, load_encoder(base))
    for name, module in model.named_modules():
        if isinstance(module, nn.Dropout) and not name.endswith("self.dropout"):
            module.p = 0.0
    with torch.no_grad(), fast_dropout(model.train(), 0):
        one, two = (model(**batch())["logits"] for _ in range(2))
    assert not one.equal(two)
