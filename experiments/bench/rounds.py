"""A federated round in simulation against its local training alone.

Both train eight packaged contributors on 384 examples each of at most 128 tokens, a core each: once as the second round
of `coldfusion run`, and once by as many plain processes as there are cores, on the same rows. In both, everything is
loaded by then.
"""

import functools
import multiprocessing
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from coldfusion_fl.arrays.encoder import Encoder
from coldfusion_fl.config.settings import FinetuneSettings
from coldfusion_fl.data.task import load_task
from coldfusion_fl.model.base import Base, open_base
from coldfusion_fl.model.encoder import build_model, load_encoder, merge
from coldfusion_fl.runs.events import RoundFused, RoundStarted
from coldfusion_fl.training.finetune import finetune
from coldfusion_fl.training.seeds import contributor_seed

from .runs import two_rounds
from .table import Row
from .training import BASE

NAMES = (
    "newsgroups",
    "reuters_r8",
    "reuters_r52",
    "movie_sentiment",
    "plot_or_review",
    "election_tweets",
    "tv_speakers",
    "convention_party",
)
# What `coldfusion run` gives its processes, and Ray its workers of one core.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}


def rounds(turns: int = 2, examples: int = 384, names: tuple[str, ...] = NAMES) -> tuple[list[Row], list[Any]]:
    """Time both in turn."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(turns):
            config = Path(folder) / f"{turn}.toml"
            seconds = {"alone": alone(BASE, examples, names, os.cpu_count() or 1)}
            found.append(seconds | {"round": run(config, examples, names)})
    rows = [
        Row(
            "a federated round of eight",
            "its local training in plain processes",
            [turn["round"] / turn["alone"] for turn in found],
            "<= 1.08",
            "times as long",
        )
    ]
    return rows, found


def run(config: Path, examples: int, names: tuple[str, ...]) -> float:
    """Seconds of the second round of a run, from the sampling until the bases are fused."""
    numbers = {"contributors": len(names), "max_length": 128, "train_examples": 50, "test_examples": 50}
    events = two_rounds(config, list(names), "packaged", examples=examples, **numbers).events()
    (started,) = (e.time for e in events if isinstance(e, RoundStarted) and e.round == 2)
    (fused,) = (e.time for e in events if isinstance(e, RoundFused) and e.round == 2)
    return fused - started


def alone(reference: str, examples: int, names: tuple[str, ...], processes: int) -> float:
    """Seconds of n finetunings in parallel plain processes, after imports."""
    before = dict(os.environ)
    os.environ.update(ENVIRONMENT)  # the processes get it as they start, which libraries need
    try:
        pool = multiprocessing.get_context("spawn").Pool(processes, _load, (reference, names))
    finally:
        os.environ.clear()
        os.environ.update(before)
    with pool:
        pool.map(_wait, range(processes), chunksize=1)
        began = time.perf_counter()
        pool.map(_finetune, [(reference, name, examples) for name in names], chunksize=1)
        return time.perf_counter() - began


def _load(reference: str, names: tuple[str, ...]) -> None:
    """Make a process ready: the base, the rows, and a training of each."""
    for name in names:
        _finetune((reference, name, 16))


def _wait(_: int) -> None:
    """Take long enough that each process gets one of these, when it is ready."""
    time.sleep(1)


def _finetune(asked: tuple[str, str, int]) -> None:
    reference, name, examples = asked
    torch.set_num_threads(1)
    base, encoder = _base(reference)
    task, settings = load_task(name), FinetuneSettings(epochs=1, examples=examples)
    seed = contributor_seed(0, 2, name)  # the rows of the run's second round
    model = build_model(base, task.num_labels, base.choose_head(settings.head), seed)
    merge(model, encoder)
    finetune(model, base.tokenizer, task, task.train.draw(examples, [seed]), settings, seed)


@functools.lru_cache(maxsize=1)
def _base(reference: str) -> tuple[Base, Encoder]:
    base = open_base(reference)
    return base, load_encoder(base)
