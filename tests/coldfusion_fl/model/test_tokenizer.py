"""A tokenizer knows words, and gives only what its model can read."""

import json
import shutil
import sys

import numpy as np
import pytest
from tiny_models import TOKENIZER_FILES, edit_json, make_base
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from coldfusion_fl.data.task import Examples
from coldfusion_fl.errors import ErrorCode, ModelError
from coldfusion_fl.model.base import open_base
from coldfusion_fl.model.encoder import build_model, load_encoder, merge
from coldfusion_fl.training.batches import shuffled_batches, tokenize
from coldfusion_fl.training.predict import predict

TEXTS = Examples(["a cat", "a dog and a horse " * 300], ["a pair", "bread"], np.array([0, 1]))


def train_and_predict(base, head="class-token", max_length=10_000):
    """One pass over a pair of texts, of which one is very long; returns the rows."""
    model = build_model(base, 2, head, seed=0)
    merge(model, load_encoder(base))
    rows = tokenize(base.tokenizer, TEXTS, max_length)
    for batch in shuffled_batches(base.tokenizer, rows, 2, np.random.default_rng(0)):
        model(**batch)["loss"].backward()
    together = predict(model, base.tokenizer, rows)
    alone = np.concatenate([predict(model, base.tokenizer, [row]) for row in rows])
    np.testing.assert_allclose(together, alone, atol=0.02)  # padding changes nothing
    return rows


@pytest.mark.parametrize("architecture", ["bert", "roberta", "mpnet"])
@pytest.mark.parametrize("removed", [TOKENIZER_FILES, ("tokenizer.json", "vocab.txt")])
def test_a_folder_without_a_tokenizer_is_rejected(tmp_path, architecture, removed):
    folder = make_base(tmp_path / "base", architecture)
    for name in removed:
        (folder / name).unlink()
    with pytest.raises(ModelError, match="tokenizer") as error:
        open_base(str(folder))
    assert error.value.code == ErrorCode.MODEL_INVALID


def word_tokenizer(folder, words, **special):
    vocabulary = {token: number for number, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    for name in TOKENIZER_FILES:
        (folder / name).unlink()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names, **special).save_pretrained(folder)


def test_a_vocabulary_without_english_words_is_accepted(tmp_path):
    folder = make_base(tmp_path / "base", vocab_size=20)
    word_tokenizer(folder, [a + b for a in "ACGT" for b in "ACGT"])
    assert open_base(str(folder)).tokenizer("AC GT")["input_ids"] == [5, 15]


def test_a_vocabulary_whose_words_are_never_found_is_rejected(tmp_path):
    folder = make_base(tmp_path / "base", vocab_size=20)
    word_tokenizer(folder, ["##a-b", "##c-d"])
    with pytest.raises(ModelError, match="6 tokens"):
        open_base(str(folder))


def test_a_vocabulary_much_smaller_than_the_models_is_noted(tmp_path):
    assert any("90000" in note for note in open_base(str(make_base(tmp_path / "base", vocab_size=90_000))).notes)
    assert not any("30600" in note for note in open_base(str(make_base(tmp_path / "same", vocab_size=30_600))).notes)


def test_a_tokenizer_with_more_tokens_than_the_embedding_is_rejected(tmp_path):
    with pytest.raises(ModelError, match="10522 tokens.* 20000 rows"):
        open_base(str(make_base(tmp_path / "other", vocab_size=20_000)))
    folder = make_base(tmp_path / "added")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<mine>"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(ModelError, match=r"1 token .* 30522 rows.*'<mine>'.*resize_token_embeddings"):
        open_base(str(folder))


def test_a_padding_token_that_the_embedding_lacks_is_rejected(tmp_path):
    folder = make_base(tmp_path / "base")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    tokenizer.save_pretrained(folder)
    edit_json(folder / "config.json", pad_token_id=None)
    with pytest.raises(ModelError, match=r"1 token .* 30522 rows.*'<pad>'"):
        open_base(str(folder))


@pytest.mark.parametrize(
    ("architecture", "types", "has_types"),
    [
        ("bert", 2, True),
        ("bert", 1, False),
        ("roberta", 2, True),
        ("roberta", 1, False),
        ("xlm-roberta-xl", 1, False),
        ("distilbert", None, False),
        ("mpnet", None, False),
        ("modernbert", None, False),
        ("deberta-v2", 0, True),
    ],
)
@pytest.mark.parametrize("head", ["class-token", "mean"])
def test_a_pair_has_only_token_types_that_the_model_knows(tmp_path, architecture, types, has_types, head):
    config = {} if types is None else {"type_vocab_size": types}
    base = open_base(str(make_base(tmp_path / "base", architecture, **config)))
    rows = train_and_predict(base, head)
    assert all(("token_type_ids" in row) is has_types for row in rows)
    assert all("attention_mask" in row for row in rows)


@pytest.mark.parametrize(
    ("architecture", "config", "limit", "expected"),
    [
        # Without a limit of the tokenizer, and with one.
        ("bert", {}, None, 129),
        ("bert", {}, 100, 100),
        ("bert", {}, 130, 130),
        ("bert", {}, 512, 129),
        ("bert", {}, 100.0, 100),
        ("bert", {"pad_token_id": 100}, None, 129),  # the positions of BERT do not start after the padding token
        ("roberta", {}, None, 129),
        ("roberta", {}, 100, 100),
        ("roberta", {}, 512, 129),
        ("roberta", {"pad_token_id": 1, "max_position_embeddings": 514}, None, 512),
        ("roberta", {"pad_token_id": 1, "max_position_embeddings": 514}, 514, 512),
        ("roberta", {"pad_token_id": 1, "max_position_embeddings": 514}, 512, 512),
        ("xlm-roberta", {"pad_token_id": 1}, 130, 128),
        ("mpnet", {}, None, 128),  # its positions start at 2 whatever the padding token is
        ("modernbert", {"vocab_size": 50368, "pad_token_id": 50283, "max_position_embeddings": 8192}, None, 8191),
        ("deberta-v2", {}, None, 129),
    ],
)
def test_texts_are_truncated_to_the_models_positions(tmp_path, architecture, config, limit, expected):
    folder = make_base(tmp_path / "base", architecture, **config)
    edit_json(folder / "tokenizer_config.json", model_max_length=limit or 10**30)
    base = open_base(str(folder))
    assert base.tokenizer.model_max_length == expected
    rows = train_and_predict(base)
    assert max(len(row["input_ids"]) for row in rows) == min(expected, 5 * 300 + 4)


@pytest.mark.parametrize("limit", [-1, 0, 2, "many"])
def test_a_limit_without_room_for_a_text_is_rejected(tmp_path, limit):
    folder = make_base(tmp_path / "base")
    edit_json(folder / "tokenizer_config.json", model_max_length=limit)
    with pytest.raises(ModelError, match="tokenizer"):
        open_base(str(folder))


def test_padding_is_on_the_right(tmp_path):
    folder = make_base(tmp_path / "base")
    edit_json(folder / "tokenizer_config.json", padding_side="left")
    base = open_base(str(folder))
    train_and_predict(base)
    batch = next(shuffled_batches(base.tokenizer, tokenize(base.tokenizer, TEXTS, 20), 2, np.random.default_rng(0)))
    assert (batch["input_ids"][:, 0] == base.tokenizer.cls_token_id).all()


def test_a_tokenizer_that_cannot_pad(tiny_base, tmp_path):
    folder = shutil.copytree(tiny_base, tmp_path / "base")
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        settings = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(settings | {"pad_token": None}))
    with pytest.raises(ModelError) as error:
        open_base(str(folder))
    assert error.value.code == ErrorCode.MODEL_UNSUPPORTED


def make_sentencepiece_base(folder):
    """A DeBERTa-v3 with the files of its release: spm.model without a tokenizer.json."""
    make_base(folder, "deberta-v2")
    for name in TOKENIZER_FILES:
        (folder / name).unlink()
    edit_json(folder / "tokenizer_config.json", do_lower_case=False, vocab_type="spm")
    (folder / "spm.model").write_bytes(b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00\x18\x02")
    return folder


def test_the_extra_for_sentencepiece_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(ModelError, match=r"pip install 'coldfusion-fl\[sentencepiece\]'") as error:
        open_base(str(make_sentencepiece_base(tmp_path / "base")))
    assert error.value.code == ErrorCode.EXTRA_MISSING


@pytest.mark.parametrize("name", ["tokenizer.model", "base.tiktoken"])
def test_the_package_for_tiktoken_is_named(tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    folder = make_sentencepiece_base(tmp_path / "base")
    (folder / "spm.model").unlink()
    (folder / name).write_text("IQ== 0\nIg== 1\n")
    with pytest.raises(ModelError, match=f"{name}.*pip install tiktoken") as error:
        open_base(str(folder))
    assert error.value.code == ErrorCode.EXTRA_MISSING


def test_a_sentencepiece_model_is_read(tmp_path):
    sentencepiece = pytest.importorskip("sentencepiece")
    folder = make_sentencepiece_base(tmp_path / "base")
    (tmp_path / "text").write_text("the quick brown fox jumps over the lazy dog and a cat\n" * 50)
    ids = {"pad_id": 0, "unk_id": 1, "bos_id": 2, "eos_id": 3}
    options = ids | {"vocab_size": 100, "hard_vocab_limit": False, "minloglevel": 2}
    sentencepiece.SentencePieceTrainer.train(input=str(tmp_path / "text"), model_prefix=str(folder / "spm"), **options)
    base = open_base(str(folder))
    assert "".join(base.tokenizer.tokenize("the cat")) == "▁the▁cat"
    train_and_predict(base)
