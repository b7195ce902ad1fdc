"""Training on a GPU: how much of what it can do is used, and whether contributors may share one.

    python -m coldfusion_fl.experiments.bench.gpu RESULT.json

The encoder has RoBERTa-base's size and random weights; the texts are of `newsgroups`, cut at 128 tokens.
Model FLOPs utilisation counts the operations of `training.flops`. Without a GPU it runs on the processor, for its
tests; there is no utilisation then.
"""

import json
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModel, RobertaConfig

from coldfusion_fl.data.task import load_task
from coldfusion_fl.model.base import Base, open_base
from coldfusion_fl.training.batches import tokenize

from .rounds import alone
from .training import BASE, Work, flops, ours

TASK = "newsgroups"
LENGTH = 128
# Dense bfloat16 FLOPs a second, as NVIDIA gives them, by what torch calls the card.
PEAKS = {
    "NVIDIA H200": 989.4e12,
    "NVIDIA H100 80GB HBM3": 989.4e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA L40S": 362e12,
    "NVIDIA L4": 121e12,
}


def write_base(folder: Path, **config: Any) -> str:
    """A base of RoBERTa's architecture and base size with random weights, and MiniLM's tokenizer."""
    shutil.copytree(open_base(BASE).folder, folder, ignore=lambda _, names: {n for n in names if n == "1_Pooling"})
    torch.manual_seed(0)
    about = RobertaConfig(vocab_size=30522, max_position_embeddings=514, pad_token_id=0, **config)
    AutoModel.from_config(about, trust_remote_code=False).save_pretrained(folder)
    return str(folder)


def throughput(base: Base, examples: int, batch_size: int, *, compiled: bool) -> dict[str, float | None]:
    """Examples a second, utilisation, and peak memory of training alone.

    It is what three epochs take longer than one, so tokenising and preparing do not count. The first epoch of all is a
    warm-up: kernels are chosen and layers compiled in it.
    """
    task = load_task(TASK)
    work = Work(base, task, task.train.draw(examples, [0]), max_length=LENGTH, batch_size=batch_size)
    model = work.model()
    if compiled:
        compile_layers(model)
    has_gpu = torch.cuda.is_available()
    first = _seconds(model, work, 1)
    if has_gpu:
        torch.cuda.reset_peak_memory_stats()
    one = _seconds(model, work, 1)
    seconds = (_seconds(model, work, 3) - one) / 2
    done = flops(model, [len(row["input_ids"]) for row in tokenize(base.tokenizer, work.examples, LENGTH)])
    peak = PEAKS.get(torch.cuda.get_device_name()) if has_gpu else None
    return {
        "batch": batch_size,
        "layers-compiled": compiled,
        "warm-up-seconds": first - one,
        "examples-a-second": examples / seconds,
        "flops-utilisation": done / seconds / peak if peak else None,
        "peak-memory-bytes": torch.cuda.max_memory_allocated() if has_gpu else None,
    }


def _seconds(model: nn.Module, work: Work, epochs: int) -> float:
    began = time.perf_counter()
    ours(model, replace(work, epochs=epochs))  # it ends by reading the loss, so the GPU has finished then
    return time.perf_counter() - began


def compile_layers(model: nn.Module) -> None:
    """Compile the layers: once for all of them, and for the next model's too."""
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) > 1:
            for layer in module:
                layer.compile(dynamic=True)


def shared(reference: str, examples: int, contributors: int) -> dict[str, float]:
    """Time n contributors in parallel and one after another on one device, in seconds."""
    names = (TASK,) * contributors
    return {
        "one-after-another": alone(reference, examples, names, 1),
        "at-once": alone(reference, examples, names, contributors),
    }


def main() -> None:
    """Measure, print and write."""
    with tempfile.TemporaryDirectory() as folder:
        reference = write_base(Path(folder) / "base")
        base = open_base(reference)
        found: dict[str, Any] = {
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "processor",
            "torch": torch.__version__,
            "throughput": [
                throughput(base, size * 16, size, compiled=compiled) for size in (16, 256) for compiled in (False, True)
            ],
            "eight-contributors": shared(reference, 1000, 8),
        }
    print(json.dumps(found, indent=1))
    Path(sys.argv[1]).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
