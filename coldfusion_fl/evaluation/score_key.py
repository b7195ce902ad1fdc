"""The key of a score: a hash of everything that the score and its predictions depend on.

Two scores with the same key are the same to the last digit, unless the device itself is not deterministic. So a score
that was stored under its key need not be computed again.
"""

import functools
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from coldfusion_fl import LOADED_AT
from coldfusion_fl.arrays.encoder import Encoder
from coldfusion_fl.arrays.hashing import encoder_hash
from coldfusion_fl.config.settings import EvaluateSettings, FinetuneSettings
from coldfusion_fl.config.tables import to_table
from coldfusion_fl.data.task import Examples, Task
from coldfusion_fl.machine import machine_facts
from coldfusion_fl.model.base import Base
from coldfusion_fl.versions import installed_versions, versions_of

# The settings that a mode does not read, as they are named in a table of settings. All others are in its key: also one
# that is added to the settings later.
_NOT_TRAINED = {
    "learning-rate", "weight-decay", "epochs", "batch-size", "examples", "dev-examples", "patience", "keep-head",
    "freeze",
}  # fmt: skip
_FEW_SHOT = {"shots", "few-shot-epochs", "few-shot-seeds"}
UNUSED_FINETUNING = {
    "frozen": _NOT_TRAINED,
    "few-shot": {"epochs", "examples", "dev-examples", "patience", "keep-head"},
    "finetuned": {"keep-head"},
}
UNUSED_EVALUATION = {
    "frozen": {"every", *_FEW_SHOT},
    "few-shot": {"every", "train-examples"},
    "finetuned": {"every", "train-examples", *_FEW_SHOT},
}
# Beside the versions that a run records. They tokenise the texts and fit the probe.
_LIBRARIES = ("tokenizers", "scipy")
# The beginnings of environment variables that set threads, instructions and precision of the numeric libraries.
_VARIABLES = (
    "OMP_", "MKL_", "OPENBLAS_", "BLIS_", "NPY_", "ATEN_", "ONEDNN_", "DNNL_", "CUBLAS_", "CUDNN_",
    "NVIDIA_TF32_", "TORCH_", "KMP_", "VECLIB_",
)  # fmt: skip


def score_keys(
    base: Base,
    encoder: Encoder,
    task: Task,
    modes: Sequence[str],
    finetuning: FinetuneSettings,
    settings: EvaluateSettings,
    seed: int,
) -> dict[str, str]:
    """The keys of an encoder's scores on a task, by mode; 64 hex digits each.

    The arguments are those of `scores.score_and_predict`.

    Returns:
        The keys; none for a tokenizer that is written in Python, because it cannot be read out as a whole, and none if
        the source of this package cannot be read, or was changed since this process loaded it.
    """
    source, tokenizer = _own_source(), _describe_tokenizer(base.tokenizer)
    if source is None or tokenizer is None:
        return {}
    common = {
        "encoder": encoder_hash(encoder),
        "config": _describe_config(base.config),
        "tokenizer": tokenizer,
        "task": [task.name, task.metric, task.classes],
        "rows": [_hash_rows(rows) for rows in (task.train, task.validation, task.test)],
        "seed": seed,
        "source": source,
        "versions": installed_versions() | versions_of(_LIBRARIES),
        "machine": _describe_machine(),
    }
    head = {"head": base.choose_head(finetuning.head)}
    keys = {}
    for mode in modes:
        used = [
            _without(to_table(finetuning) | head, UNUSED_FINETUNING.get(mode, set())),
            _without(to_table(settings), UNUSED_EVALUATION.get(mode, set())),
        ]
        content = json.dumps(common | {"mode": mode, "settings": used}, sort_keys=True)
        keys[mode] = hashlib.sha256(content.encode()).hexdigest()
    return keys


def _without(table: dict[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in table.items() if name not in names}


def _describe_config(config: Any) -> dict[str, Any]:
    """A model's configuration, without the folder that it was read from."""
    described: dict[str, Any] = json.loads(config.to_json_string(use_diff=False))
    return _without(described, {"_name_or_path"})


# A worker scores all tasks of a run with one tokenizer, whose description takes long for a large vocabulary.
@functools.lru_cache(maxsize=1)
def _describe_tokenizer(tokenizer: PreTrainedTokenizerBase) -> list[Any] | None:
    """What decides the tokens of a text, and their padding; None for a tokenizer that is written in Python."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    content = backend.to_str()
    # Before this key are the truncation and the padding, which each call sets anew.
    content = content.partition('"added_tokens"')[2] or content
    return [
        type(tokenizer).__qualname__,
        hashlib.sha256(content.encode()).hexdigest(),
        tokenizer.model_max_length,
        tokenizer.truncation_side,
        tokenizer.padding_side,
        tokenizer.pad_token_id,
        tokenizer.pad_token_type_id,
        tokenizer.model_input_names,
        tokenizer.split_special_tokens,
    ]


def _hash_rows(rows: Examples) -> str:
    """A hash of all rows of a split. `scores.hash_rows` takes ten times as long for texts of many megabytes."""
    digest = hashlib.sha256(f"{len(rows)} {rows.pairs is None} {rows.labels.dtype.str}\n".encode())
    for texts in (rows.texts, rows.pairs or []):
        digest.update(np.array([len(text) for text in texts], np.int64).tobytes())
        digest.update("".join(texts).encode("utf-8", "surrogatepass"))
    digest.update(np.ascontiguousarray(rows.labels).tobytes())
    return digest.hexdigest()


def _describe_machine() -> dict[str, Any]:
    """What of the machine and the process changes the last digits of a result."""
    libraries = _describe_libraries()  # before the variables, as scikit-learn sets some when it is imported
    variables = {name: value for name, value in os.environ.items() if name.startswith(_VARIABLES)}
    now = {"threads": torch.get_num_threads(), "libraries": libraries, "variables": variables}
    return _describe_hardware() | now


@functools.cache
def _describe_hardware() -> dict[str, Any]:
    # PyTorch's own description has its build and the instructions that it uses. Whether bfloat16 is used follows from
    # the processor's capabilities and the GPUs.
    found = {"torch": torch.__config__.show(), "capabilities": dict(torch.cpu.get_capabilities())}
    return found | _without(machine_facts(), {"memory-bytes"})


@functools.cache
def _describe_libraries() -> list[dict[str, Any]]:
    """The BLAS and OpenMP libraries of numpy, scipy, scikit-learn and PyTorch: versions, kernels and threads."""
    import sklearn.metrics  # noqa: F401  (its libraries are described too, whether it was loaded before or not)
    from threadpoolctl import threadpool_info

    # Not their order, which is that of the imports, and not their paths.
    found = [_without(library, {"filepath", "prefix"}) for library in threadpool_info()]
    return sorted(found, key=lambda library: json.dumps(library, sort_keys=True))


def hash_source(folder: Path, loaded_at: float) -> str | None:
    """A hash of the names and the contents of all Python files in a folder and below, except hidden ones.

    Args:
        folder: the folder.
        loaded_at: when the process began to load the files, in seconds since the epoch.

    Returns:
        64 hex digits. None: a file cannot be read, or was changed since, so that the process may work with another
        content.
    """
    digest = hashlib.sha256()
    try:
        for file in sorted(folder.rglob("[!.]*.py")):
            content = file.read_bytes()
            # The time of the last change of the file or its facts. Unlike that of its content, no program sets it.
            if file.stat().st_ctime >= loaded_at:
                return None
            digest.update(f"{file.relative_to(folder).as_posix()} {len(content)}\n".encode() + content)
    except OSError:
        return None
    return digest.hexdigest()


@functools.cache
def _own_source() -> str | None:
    # An edited checkout must not show the scores of the code that it had before.
    return hash_source(Path(__file__).parents[1], LOADED_AT)
