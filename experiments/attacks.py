"""Contributors that mean ill, or are broken: what they send, or what they learn from, is spoilt.

A run folder with a `attacks.json` is that of a attacked run: it names them.
"""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
from flwr.app import Array, Context, Message
from flwr.clientapp.typing import ClientAppCallable, Mod
from pydantic import Field

from coldfusion_fl.arrays.encoder import Encoder
from coldfusion_fl.atomic_files import write_json
from coldfusion_fl.config.components import Component, parse_component
from coldfusion_fl.config.settings import Settings, TaskSettings
from coldfusion_fl.data.task import Task, load_task
from coldfusion_fl.errors import SettingsError

_FILE = "attacks.json"


class Attack(Component):
    """What a attacker does."""

    def apply(self, update: Encoder, draw: np.random.Generator) -> Encoder:
        """What is sent in place of an update, the difference of a contribution to its base."""
        return update


class Noise(Attack):
    """Gaussian noise in place of the update.

    Attributes:
        times: its norm over all arrays, as a multiple of the update's.
    """

    name: ClassVar[str] = "noise"
    times: float = Field(10.0, gt=0)

    def apply(self, update: Encoder, draw: np.random.Generator) -> Encoder:
        """See `Attack`."""
        noise = {name: draw.standard_normal(array.shape, np.float32) for name, array in update.items()}
        factor = self.times * _norm(update) / _norm(noise)
        return {name: factor * array for name, array in noise.items()}


class SignFlip(Attack):
    """The update with the sign turned.

    Attributes:
        times: how long it is, as a multiple of the update.
    """

    name: ClassVar[str] = "sign-flip"
    times: float = Field(1.0, gt=0)

    def apply(self, update: Encoder, draw: np.random.Generator) -> Encoder:
        """See `Attack`."""
        return {name: -self.times * array for name, array in update.items()}


class LabelShuffled(Attack):
    """An honest training on rows whose labels are shuffled: only what it was learnt from is odd."""

    name: ClassVar[str] = "label-shuffled"


ATTACKS: dict[str, type[Attack]] = {kind.name: kind for kind in (Noise, SignFlip, LabelShuffled)}


def parse_attacks(attacks: Mapping[str, str]) -> dict[str, Attack]:
    """What each attacker does, of its text.

    Raises:
        SettingsError: a text names no attack (the known ones are listed), or a parameter is out of range.
    """
    return {name: parse_component(text, ATTACKS, f"attacker '{name}'") for name, text in attacks.items()}


def write_attacks(folder: Path, attacks: Mapping[str, str]) -> None:
    """Make a run folder that of a attacked run."""
    write_json(folder / _FILE, attacks)


def attack_mods(folder: Path, settings: Settings) -> list[Mod]:
    """The Flower mods that make a run folder's attackers what they are; none in an honest run."""
    file = folder / _FILE
    if not file.exists():
        return []
    attacks = parse_attacks(json.loads(file.read_text(encoding="utf-8")))

    def mod(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        reply = call_next(message, context)
        if message.metadata.message_type != "train" or reply.has_error():
            return reply
        name = settings.contributors[int(context.node_config["partition-id"])]
        if name in attacks:
            base, sent = message.content["arrays"], reply.content["arrays"]
            update = {key: sent[key].numpy() - base[key].numpy() for key in sent}
            seed = [settings.seed, int(message.content["config"]["server-round"]), zlib.crc32(name.encode())]
            for key, array in attacks[name].apply(update, np.random.default_rng(seed)).items():
                sent[key] = Array((base[key].numpy() + array).astype(np.float32))
        return reply

    return [mod]


def with_shuffled_labels(
    tasks: TaskSettings, attacks: Mapping[str, Attack], folder: Path, seed: int
) -> tuple[str, ...]:
    """The catalogues in which the tasks of those with shuffled labels have such rows; the rows lie in a folder.

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
        raise SettingsError(f"'{task.name}' is a regression: label-shuffled takes a task with classes.")
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "validation", "test"):
        part = getattr(task, split)
        labels = part.labels
        if split == "train":
            labels = np.random.default_rng(seed).permutation(labels)
        columns = {"text": part.texts, "label": [task.classes[label] for label in labels]}
        table = pd.DataFrame(columns | ({"pair": part.pairs} if part.pairs else {}))
        table.to_json(folder / f"{split}.jsonl", orient="records", lines=True, force_ascii=False)


def _norm(arrays: Encoder) -> float:
    return float(np.sqrt(sum(float(np.vdot(array, array)) for array in arrays.values())))
