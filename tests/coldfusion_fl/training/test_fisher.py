import numpy as np
import pytest
import torch

from coldfusion_fl.data.task import Examples
from coldfusion_fl.model.base import open_base
from coldfusion_fl.model.encoder import encoder_of, load_encoder, merge, new_model
from coldfusion_fl.training.batches import batches, tokenize
from coldfusion_fl.training.fisher import fisher_diagonal

ROWS = Examples(["a cat and a dog", "bread", "the piano and a song"], None, np.zeros(3, np.int64))


@pytest.fixture(scope="module")
def base(tiny_base):
    return open_base(str(tiny_base))


def model_of(base, labels):
    encoder = load_encoder(base)
    model = new_model(base, labels, "mean", seed=0)
    merge(model, encoder)
    return model, encoder


def exactly(model, base, labels):
    """The expectation over all answers, each weighted with its probability; for numbers it is the output's gradient."""
    parameters = dict(encoder_of(model).named_parameters())
    total = {name: torch.zeros_like(value) for name, value in parameters.items()}
    for _, batch in batches(base.tokenizer, tokenize(base.tokenizer, ROWS, 16), 1):
        for answer in range(labels):
            logits = model(**batch).logits[0]
            said, weight = logits[0], 1.0
            if labels > 1:
                said = logits.log_softmax(-1)[answer]
                weight = said.detach().exp()
            model.zero_grad()
            said.backward()
            for name, value in parameters.items():
                if value.grad is not None:
                    total[name] += weight * value.grad**2 / len(ROWS)
    return {name: value.numpy() for name, value in total.items()}


@pytest.mark.parametrize("labels", [3, 1])
def test_the_mean_of_many_draws_is_the_expectation(base, labels):
    model, encoder = model_of(base, labels)
    found = [fisher_diagonal(model, base.tokenizer, ROWS, 16, encoder, seed) for seed in range(120)]
    expected = exactly(model.cpu().eval(), base, labels)
    one, other = (
        np.concatenate([values[name].reshape(-1) for name in sorted(encoder) if name in expected])
        for values in ({n: np.mean([f[n] for f in found], axis=0) for n in encoder}, expected)
    )
    assert np.linalg.norm(one - other) < 0.2 * np.linalg.norm(other)


def test_it_has_the_encoders_names_and_shapes_and_depends_on_its_seed_alone(base):
    model, encoder = model_of(base, 2)
    one, again, other = (fisher_diagonal(model, base.tokenizer, ROWS, 16, encoder, seed) for seed in (1, 1, 2))
    assert one.keys() == encoder.keys()
    for name, array in encoder.items():
        assert (one[name].shape, one[name].dtype) == (array.shape, np.float32)
        assert (one[name] >= 0).all()
        assert one[name].tobytes() == again[name].tobytes()
    assert any(one[name].tobytes() != other[name].tobytes() for name in one)
    assert one["embeddings.word_embeddings.weight"][base.tokenizer.convert_tokens_to_ids("cat")].any()
    assert not one["embeddings.word_embeddings.weight"][base.tokenizer.convert_tokens_to_ids("guitar")].any()
