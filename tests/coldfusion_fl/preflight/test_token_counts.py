"""Which rows are tokenised before a run, and what is said of rows that a tokenizer cannot read."""

import numpy as np
import pytest
from tiny_models import make_base

from coldfusion_fl.data.task import Examples
from coldfusion_fl.errors import DataError
from coldfusion_fl.model.base import open_base
from coldfusion_fl.preflight import token_counts
from coldfusion_fl.preflight.token_counts import count_tokens


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return open_base(str(make_base(tmp_path_factory.mktemp("base") / "tiny")))


def count(base, texts, pairs=None):
    return count_tokens(base, Examples(texts, pairs, np.zeros(len(texts))), 16, "test", longest=2)


def test_all_rows_of_a_small_split_are_tokenised(base):
    counted = count(base, ["a cat"] * 2500 + ["a dog and a cat"])
    assert counted.rows.tolist() == list(range(2501))
    assert counted.longest(1).tolist() == [2500]
    assert counted.lengths[0] == 4  # with [CLS] and [SEP]


def test_of_a_large_split_the_longest_rows_and_every_nth_are_tokenised(base, monkeypatch):
    monkeypatch.setattr(token_counts, "_MAX_CHARACTERS", 1000)
    texts = ["a cat"] * 1000
    texts[333] = texts[555] = "a dog and a cat"
    counted = count(base, texts)
    assert {333, 555} < set(counted.rows.tolist())
    assert 150 < len(counted.rows) < 180
    assert set(counted.longest(2).tolist()) == {333, 555}


def test_a_pair_counts_with_both_texts(base, monkeypatch):
    monkeypatch.setattr(token_counts, "_MAX_CHARACTERS", 100)
    pairs = ["a"] * 100
    pairs[77] = "a dog and a cat"
    assert 77 in count(base, ["a cat"] * 100, pairs).longest(1)


@pytest.mark.parametrize("limit", [50_000, 1000])
@pytest.mark.parametrize("text", [None, 3, "half \ud83d an emoji"])
def test_a_row_that_the_tokenizer_cannot_read_is_named_also_in_a_large_split(base, monkeypatch, limit, text):
    monkeypatch.setattr(token_counts, "_MAX_CHARACTERS", limit)
    with pytest.raises(DataError) as error:
        count(base, ["a cat"] * 1203 + [text] + ["a cat"])
    assert "row 1204 of the test split" in str(error.value)


def test_unknown_tokens_are_counted(base):
    assert count(base, ["a 🦖 and a 🪿"]).unknown == 2
