import numpy as np
import pytest
import torch
from tiny_models import make_base

from coldfusion_fl.data.task import Examples
from coldfusion_fl.model.base import open_base
from coldfusion_fl.model.encoder import build_model, get_encoder, load_encoder, merge
from coldfusion_fl.training.batches import batches, tokenize
from coldfusion_fl.training.fisher import fisher_diagonal

ROWS = Examples(["a cat and a dog", "bread", "the piano and a song"], None, np.zeros(3, np.int64))
LENGTH = 16


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """One layer of size 8: most of the time goes into the gradient of the embedding."""
    size = {"hidden_size": 8, "num_hidden_layers": 1, "intermediate_size": 16}
    return open_base(str(make_base(tmp_path_factory.mktemp("fisher") / "bert", **size)))


def build(base, labels):
    encoder = load_encoder(base)
    model = build_model(base, labels, "mean", seed=0)
    merge(model, encoder)
    return model, encoder


def exact_diagonal(model, base, labels):
    """The expectation over all classes by their probability; for a regression, the squared gradient of the output."""
    parameters = dict(get_encoder(model).named_parameters())
    total = {name: torch.zeros_like(value) for name, value in parameters.items()}
    for _, batch in batches(base.tokenizer, tokenize(base.tokenizer, ROWS, LENGTH), 1):
        for label in range(labels):
            logits = model(**batch).logits[0]
            output, weight = logits[0], 1.0
            if labels > 1:
                output = logits.log_softmax(-1)[label]
                weight = output.detach().exp()
            model.zero_grad()
            output.backward()
            for name, value in parameters.items():
                if value.grad is not None:
                    total[name] += weight * value.grad**2 / len(ROWS)
    return {name: value.numpy() for name, value in total.items()}


@pytest.mark.parametrize("labels", [3, 1])
def test_the_mean_over_many_samples_is_the_expectation(base, labels):
    model, encoder = build(base, labels)
    repeated = ROWS.take(np.repeat(np.arange(len(ROWS)), 200))
    sampled = fisher_diagonal(model, base.tokenizer, repeated, LENGTH, encoder, seed=0)
    exact = exact_diagonal(model.cpu().eval(), base, labels)
    names = [name for name in sorted(encoder) if name in exact]
    ours, expected = (np.concatenate([values[name].reshape(-1) for name in names]) for values in (sampled, exact))
    assert np.linalg.norm(ours - expected) < 0.2 * np.linalg.norm(expected)


def test_it_has_the_encoders_names_and_shapes_and_depends_only_on_the_seed(base):
    model, encoder = build(base, 2)
    one, again, other = (fisher_diagonal(model, base.tokenizer, ROWS, LENGTH, encoder, seed) for seed in (1, 1, 2))
    assert one.keys() == encoder.keys()
    for name, array in encoder.items():
        assert (one[name].shape, one[name].dtype) == (array.shape, np.float32)
        assert (one[name] >= 0).all()
        assert one[name].tobytes() == again[name].tobytes()
    assert any(one[name].tobytes() != other[name].tobytes() for name in one)
    embedding = one["embeddings.word_embeddings.weight"]
    assert embedding[base.tokenizer.convert_tokens_to_ids("cat")].any()
    assert not embedding[base.tokenizer.convert_tokens_to_ids("guitar")].any()
