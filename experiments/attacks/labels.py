"""Rows with shuffled labels, for the attack `label-shuffled`."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from coldfusion_fl.config.settings import TaskSettings
from coldfusion_fl.data.task import Task, load_task
from coldfusion_fl.errors import ErrorCode, SettingsError

from .attack import Attack, LabelShuffled


def with_shuffled_labels(
    tasks: TaskSettings, attacks: Mapping[str, Attack], folder: Path, seed: int
) -> tuple[str, ...]:
    """Shuffle the training labels of the attackers with `LabelShuffled`.

    Args:
        tasks: where the tasks are defined.
        attacks: by contributor, whose name is that of its task.
        folder: the changed rows and a catalogue of them are written here, if there are any.
        seed: of the permutation.

    Returns:
        The catalogues of `tasks`, followed by that of the changed tasks.

    Raises:
        SettingsError: a task is a regression, which has no classes to shuffle.
    """
    tables = []
    for name, attack in attacks.items():
        if isinstance(attack, LabelShuffled):
            task = load_task(name, tasks.catalogue, tasks.data_root)
            _write_shuffled(task, folder / name, seed)
            text = '["text", "pair"]' if task.train.pairs else '"text"'
            place = json.dumps(str((folder / name).resolve()))
            tables.append(f'[tasks.{json.dumps(name)}]\nfolder = {place}\ntext = {text}\nmetric = "{task.metric}"\n')
    if not tables:
        return tasks.catalogue
    catalogue = folder / "poisoned.toml"
    catalogue.write_text("\n".join(tables), encoding="utf-8")
    return (*tasks.catalogue, str(catalogue.resolve()))


def _write_shuffled(task: Task, folder: Path, seed: int) -> None:
    if task.classes is None:
        raise SettingsError(
            f"'{task.name}' is a regression task, but label-shuffled needs a task with classes.",
            code=ErrorCode.SETTINGS_CONFLICT,
        )
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "validation", "test"):
        part = getattr(task, split)
        labels = part.labels
        if split == "train":
            labels = np.random.default_rng(seed).permutation(labels)
        columns = {"text": part.texts, "label": [task.classes[label] for label in labels]}
        table = pd.DataFrame(columns | ({"pair": part.pairs} if part.pairs else {}))
        table.to_json(folder / f"{split}.jsonl", orient="records", lines=True, force_ascii=False)
