import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import AutoModel, BertConfig, CanineConfig, CanineModel, RobertaConfig

from coldfusion_fl.training.compact_vocabulary import compact_vocabulary

WORDS, DECAY = 40, 0.05
SMALL = {
    "vocab_size": WORDS,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
TEXTS = [[1, 5, 9, 2], [1, 30, 2], [1, 7, 5, 7, 31, 2]]


def build_encoder(config):
    torch.manual_seed(0)
    return AutoModel.from_config(config(**SMALL)).train()


def batch_of(texts, padding):
    longest = max(map(len, texts))
    ids = torch.tensor([text + [padding] * (longest - len(text)) for text in texts])
    return {"input_ids": ids, "attention_mask": (ids != padding).long()}


def train(encoder, batch, deferred_decay=None, steps=5):
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=0.01, weight_decay=DECAY)
    losses = []
    for _ in range(steps):
        if deferred_decay is not None:
            deferred_decay.step(0.01 * DECAY)
        loss = (encoder(**batch).last_hidden_state[:, 0] - 1).square().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(encoder.parameters(), 0.1)
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("config", [BertConfig, RobertaConfig])
def test_training_gives_the_weights_of_the_full_vocabulary(config):
    """RoBERTa computes positions from the token ids, so these must not change."""
    full = build_encoder(config)
    compact = copy.deepcopy(full)
    batch = batch_of(TEXTS, full.config.pad_token_id)
    names = list(full.state_dict())
    losses = train(full, batch)
    with compact_vocabulary(
        compact, [{"input_ids": text} for text in TEXTS], full.config.pad_token_id
    ) as deferred_decay:
        assert compact.get_input_embeddings().weight.shape == (8 if config is BertConfig else 7, 8)
        assert train(compact, batch, deferred_decay) == pytest.approx(losses, rel=1e-5)
    assert list(compact.state_dict()) == names
    for name, weight in full.state_dict().items():
        torch.testing.assert_close(compact.state_dict()[name], weight, rtol=1e-5, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(st.integers(0, WORDS - 1), min_size=1, max_size=6), min_size=1, max_size=4))
def test_any_text_has_the_outputs_of_the_full_vocabulary(texts):
    encoder = build_encoder(BertConfig)
    batch = batch_of(texts, 0)
    with torch.no_grad():
        full = encoder(**batch).last_hidden_state
        with compact_vocabulary(encoder, [{"input_ids": text} for text in texts], 0):
            torch.testing.assert_close(encoder(**batch).last_hidden_state, full)
        torch.testing.assert_close(encoder(**batch).last_hidden_state, full)


def test_an_unknown_token_is_an_error():
    encoder = build_encoder(BertConfig)
    with compact_vocabulary(encoder, [{"input_ids": [1, 2]}], 0), pytest.raises(IndexError):
        encoder(**batch_of([[1, 3]], 0))
    encoder(**batch_of([[1, 3]], 0))


def test_a_frozen_embedding_does_not_change():
    encoder = build_encoder(BertConfig)
    encoder.get_input_embeddings().requires_grad_(False)
    before = encoder.get_input_embeddings().weight.clone()
    with compact_vocabulary(encoder, [{"input_ids": [1, 2]}], 0) as deferred_decay:
        deferred_decay.step(0.5)
    assert encoder.get_input_embeddings().weight.equal(before)


def test_an_encoder_without_a_token_embedding_does_not_change():
    encoder = CanineModel(CanineConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8))
    with compact_vocabulary(encoder, [{"input_ids": [97, 98]}], 0) as deferred_decay:
        deferred_decay.step(0.5)
    assert deferred_decay.factor == 0.5


def test_a_shared_embedding_stays_full():
    encoder = build_encoder(BertConfig)
    encoder.output = nn.Linear(8, WORDS, bias=False)
    encoder.output.weight = encoder.get_input_embeddings().weight
    with compact_vocabulary(encoder, [{"input_ids": [1, 2]}], 0) as deferred_decay:
        deferred_decay.step(0.5)
        assert encoder.get_input_embeddings().weight is encoder.output.weight
    before = build_encoder(BertConfig).get_input_embeddings().weight
    assert encoder.output.weight.equal(before)
