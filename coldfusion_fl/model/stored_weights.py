"""The files of a model folder's weights, and whether their size agrees with the configuration.

A configuration of another party may name any size. Memory is reserved by it before the weights are read, so the two are
compared first, by the headers of the files alone.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import nn

from coldfusion_fl.errors import ErrorCode, ModelError, count, first_line

WEIGHTS = "model.safetensors"
# What decides the sizes of an encoder's arrays. Names that a configuration lacks are skipped.
_SIZES = (
    "hidden_size",
    "intermediate_size",
    "embedding_size",
    "vocab_size",
    "max_position_embeddings",
    "type_vocab_size",
    "num_attention_heads",
)
_LAYERS = ("num_hidden_layers", "num_hidden_groups", "inner_group_num")
# Below this, sizes do no harm: a checkpoint may have fewer weights than its architecture, and layers may share theirs.
_HARMLESS_SIZE, _HARMLESS_LAYERS, _FACTOR = 10_000_000, 1000, 4


@dataclass(frozen=True)
class StoredSize:
    """The size of stored weights.

    Attributes:
        arrays: the number of arrays.
        weights: the number of weights in them.
    """

    arrays: int
    weights: int


def weight_files(folder: Path, reference: str) -> list[Path]:
    """The files of a folder's weights; an index names the shards.

    Raises:
        ModelError: the index is damaged or names a file outside of the folder, or a file is missing.
    """
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    index = folder / f"{WEIGHTS}.index.json"
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        # An index of another party must not lead out of its folder.
        shards = [folder / name for name in names if Path(name).name == name]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        names, shards = [], []
    if not shards or len(shards) < len(names):
        raise ModelError(f"{reference}: {index.name} does not list the files of the weights. Save the model again.")
    if missing := [shard.name for shard in shards if not shard.is_file()]:
        raise ModelError(
            f"{reference}: {missing[0]} is missing ({len(missing)} of {len(shards)} files of the weights). "
            "Copy or download it again.",
            code=ErrorCode.MODEL_MISSING,
        )
    return shards


def read_size(folder: Path, reference: str) -> StoredSize:
    """The size of a folder's weights, by the headers of the files.

    Raises:
        ModelError: a file is missing or damaged; the message names it.
    """
    sizes = []
    for file in weight_files(folder, reference):
        try:
            with safe_open(file, "pt") as opened:
                sizes += [math.prod(opened.get_slice(name).get_shape()) for name in opened.keys()]  # noqa: SIM118
        # Another type for each version of safetensors, and an OSError for a file that cannot be read.
        except Exception as failure:
            raise ModelError(
                f"{reference}: its weights cannot be loaded: {file.name}: {first_line(failure).rstrip('.')}. The file "
                "is damaged or not complete. Copy or download it again."
            ) from None
    return StoredSize(len(sizes), sum(sizes))


def check_config_sizes(config: Any, stored: StoredSize, reference: str) -> None:
    """Check the sizes in a configuration, before a model is built from it.

    Raises:
        ModelError: one of them is far beyond what the weights can be.
    """
    largest, layers = max(stored.weights, _HARMLESS_SIZE), max(stored.arrays, _HARMLESS_LAYERS)
    for names, limit in ((_SIZES, largest), (_LAYERS, layers)):
        for name in names:
            value = getattr(config, name, None)
            if isinstance(value, int | float) and value > limit:
                raise ModelError(
                    f"{reference}: its config.json says '{name}': {value}, but its files have only "
                    f"{count(stored.arrays, 'array')} with {stored.weights:,} weights. The two do not belong to the "
                    "same model."
                )


def check_model_size(model: nn.Module, stored: StoredSize, reference: str) -> None:
    """Check the size of a model whose weights take no memory yet.

    Args:
        model: the model, on the meta device.
        stored: the size of its stored weights.
        reference: the folder as the user wrote it, for messages.

    Raises:
        ModelError: it has far more weights than are stored.
    """
    described = sum(parameter.numel() for parameter in model.parameters())
    if described > _FACTOR * max(stored.weights, _HARMLESS_SIZE):
        raise ModelError(
            f"{reference}: its config.json describes a model of {described:,} weights, but its files have only "
            f"{stored.weights:,}. The two do not belong to the same model."
        )
