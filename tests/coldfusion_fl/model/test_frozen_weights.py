import pytest
import torch
from tiny_models import ARCHITECTURES, make_base
from torch import nn
from transformers import AutoModel, BertConfig, CanineConfig, CanineModel

from coldfusion_fl.errors import ErrorCode, ModelError
from coldfusion_fl.model.architecture import build_skeleton, get_encoder
from coldfusion_fl.model.base import open_base
from coldfusion_fl.model.frozen_weights import frozen_weights, without_gradients

SMALL = {"vocab_size": 40, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_token_embedding_of_each_architecture_is_one_weight(architecture, tmp_path):
    base = open_base(str(make_base(tmp_path / "base", architecture)))
    encoder = get_encoder(build_skeleton(base.config, architecture))
    ((name, weight),) = frozen_weights(encoder, "embeddings").items()
    assert name in encoder.state_dict()
    assert weight.shape[0] == base.config.vocab_size
    assert frozen_weights(encoder, "nothing") == {}


def test_a_shared_embedding_is_frozen_under_each_of_its_names():
    encoder = AutoModel.from_config(BertConfig(**SMALL))
    encoder.output = nn.Linear(8, SMALL["vocab_size"], bias=False)
    encoder.output.weight = encoder.get_input_embeddings().weight
    assert set(frozen_weights(encoder, "embeddings")) == {"embeddings.word_embeddings.weight", "output.weight"}


def test_an_encoder_without_a_token_embedding_is_an_error():
    encoder = CanineModel(CanineConfig(**SMALL, intermediate_size=8))
    with pytest.raises(ModelError, match="CanineModel has no token embedding") as wrong:
        frozen_weights(encoder, "embeddings")
    assert wrong.value.code == ErrorCode.MODEL_UNSUPPORTED
    assert frozen_weights(encoder, "nothing") == {}


def test_gradients_are_off_in_the_context_alone():
    encoder = AutoModel.from_config(BertConfig(**SMALL))
    weight = encoder.get_input_embeddings().weight
    with without_gradients(encoder, "embeddings"):
        encoder(input_ids=torch.tensor([[1, 2]])).last_hidden_state.sum().backward()
        assert weight.grad is None
        assert all(other.requires_grad for other in encoder.parameters() if other is not weight)
    assert weight.requires_grad
