"""Which word pieces a contributor's rows hold can be read off a contribution, unless the embeddings are frozen.

Training moves the rows of the token embedding whose tokens its texts use. All other rows are scaled by the weight decay
alone, by the same factor.
"""

import numpy as np
import pytest
from client_messages import ask, context

from coldfusion_fl.aggregation.compression import EncodedContribution, decode
from coldfusion_fl.config.settings import COMPRESSIONS
from coldfusion_fl.data.task import load_task
from coldfusion_fl.fusion import Contribution, Mean
from coldfusion_fl.model.base import open_base
from coldfusion_fl.training.batches import tokenize

EMBEDDING = "embeddings.word_embeddings.weight"


def moved(before, after):
    """The attack: how far each row is from the row that weight decay alone would have left, shape (tokens,)."""
    rows = before.any(axis=1)  # that of the padding token is 0
    factor = np.median((before * after).sum(axis=1)[rows] / (before * before).sum(axis=1)[rows])
    return np.linalg.norm(after - factor * before, axis=1)


def precision_and_recall(distances, tokens):
    """Of the rows that moved, against the tokens of the rows of text."""
    found = set(np.flatnonzero(distances > 0.01 * distances.max()).tolist())
    return len(found & tokens) / len(found), len(found & tokens) / len(tokens)


def chance(distances, tokens):
    """The probability that a token of the texts moved further than another token; half of it where they are equal."""
    is_used = np.isin(np.arange(len(distances)), list(tokens))
    used, unused = distances[is_used], np.sort(distances[~is_used])
    ranks = np.searchsorted(unused, used, "left") + np.searchsorted(unused, used, "right")
    return float(ranks.mean() / 2 / len(unused))


@pytest.fixture
def node_of(toy_data, tiny_base):
    def make(task):
        return context({"task": task, "catalogue": str(toy_data / "toy.toml"), "base": str(tiny_base)})

    return make


@pytest.fixture(scope="module")
def tokens_of(toy_data, tiny_base):
    """The tokens in the training rows of a task."""

    def tokens(task):
        rows = load_task(task, (str(toy_data / "toy.toml"),)).train.draw(0, [0])
        tokenized = tokenize(open_base(str(tiny_base)).tokenizer, rows, 16)
        return {token for row in tokenized for token in row["input_ids"]}

    return tokens


def contribution(node, encoder, compression="float32", **config):
    """What the server reads of a contribution."""
    reply = ask("train", node, encoder, **{"finetune.examples": 0, "coldfusion.compression": compression, **config})
    assert not reply.has_error(), reply.error.reason
    parts = [{n: a.numpy() for n, a in reply.content.get(kind, {}).items()} for kind in ("arrays", "scales")]
    return decode(EncodedContribution(compression, *parts), encoder)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_contribution_with_embeddings_tells_the_exact_word_pieces(node_of, tokens_of, encoder, compression):
    """This is a fact that SECURITY.md states, not a wish."""
    sent = contribution(node_of("b"), encoder, compression)
    assert precision_and_recall(moved(encoder[EMBEDDING], sent[EMBEDDING]), tokens_of("b")) == (1, 1)


def test_one_of_two_contributors_reads_the_others_word_pieces_off_the_fused_base(node_of, tokens_of, encoder):
    own, other = (contribution(node_of(task), encoder) for task in "ab")
    fused = Mean()(encoder, [Contribution("a", own), Contribution("b", other)])
    inferred = 2 * fused[EMBEDDING] - own[EMBEDDING]
    assert precision_and_recall(moved(encoder[EMBEDDING], inferred), tokens_of("b")) == (1, 1)


@pytest.mark.parametrize("compression", ["float32", "int8"])
def test_frozen_embeddings_tell_nothing_of_word_pieces(node_of, tokens_of, encoder, compression):
    """Also where they are sent, by a server that asks for all arrays, and fused with those of others."""
    frozen = {"finetune.freeze": "embeddings"}
    own, other = (contribution(node_of(task), encoder, compression, **frozen) for task in "ab")
    fused = Mean()(encoder, [Contribution("a", own), Contribution("b", other)])
    for seen in (other[EMBEDDING], 2 * fused[EMBEDDING] - own[EMBEDDING]):
        assert chance(moved(encoder[EMBEDDING], seen), tokens_of("b")) == 0.5
    assert any(not np.array_equal(other[name], encoder[name]) for name in encoder)
