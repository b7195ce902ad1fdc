"""The state of a training that is not finished, on disk, so that an interrupted training goes on.

A resumed training gives the same weights as one that was not interrupted: saved are the weights, the optimizer's
moments, the schedule, the random generators and the early stopping.
"""

import json
import logging
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import nn

from coldfusion_fl.arrays.array_files import save_arrays
from coldfusion_fl.atomic_files import atomic_write, remove

if TYPE_CHECKING:
    from coldfusion_fl.training.compact_vocabulary import DeferredWeightDecay
    from coldfusion_fl.training.fast_dropout import DropoutMasks
    from coldfusion_fl.training.finetune import EarlyStopping, TrainingStep

_LOGGER = logging.getLogger(__name__)
# Seconds between two saves: what an interruption costs at most.
_INTERVAL = 30.0
_STATE, _IDENTITY = "state", "identity"
_MODEL, _OPTIMIZER, _LOSSES, _GENERATOR = "model.", "optimizer.", "losses", "generator."


@dataclass
class TrainingStatistics:
    """What a training has counted so far.

    Attributes:
        losses: the loss of each step, shape () each, float32, on the device.
        examples_seen: the number of examples, counted once per epoch.
        dev_score: the last development score, in points; NaN if there was none.
    """

    losses: list[torch.Tensor] = field(default_factory=list)
    examples_seen: int = 0
    dev_score: float = float("nan")


@dataclass(frozen=True)
class TrainingParts:
    """The objects of a training that change with each step.

    Attributes:
        model: encoder and head.
        step: the optimizer and its schedule.
        decay: the decay of the rows of the embedding that no text uses.
        masks: the dropout masks; None on a GPU, where PyTorch draws them.
        early_stopping: the best development score.
    """

    model: nn.Module
    step: "TrainingStep"
    decay: "DeferredWeightDecay"
    masks: "DropoutMasks | None"
    early_stopping: "EarlyStopping"


class TrainingCheckpoint:
    """The file of an unfinished training.

    Args:
        file: the file, which need not exist.
        identity: what a training must have in common with the saved one to continue it, such as hashes of its base and
            rows, and its settings.
        interval: seconds between two saves.
    """

    def __init__(self, file: Path, identity: Mapping[str, Any], interval: float = _INTERVAL) -> None:
        self.file = file
        self._identity = json.dumps(identity, sort_keys=True)
        self._interval = interval
        self._saved = time.monotonic()

    def saved_step(self) -> int | None:
        """The step after which the saved training continues; None: there is none with this identity."""
        state = self._read_state()
        return None if state is None else len(state[_LOSSES])

    def remove(self) -> None:
        """Remove the file, if it exists."""
        remove(self.file)

    def is_due(self) -> bool:
        """Whether the time between two saves has passed."""
        return time.monotonic() - self._saved >= self._interval

    def save(self, parts: TrainingParts, statistics: TrainingStatistics) -> None:
        """Save a training between two steps. If the disk is full, the training goes on without being saved."""
        optimizer, schedule = parts.step.state()
        tensors = {f"{_MODEL}{name}": value for name, value in parts.model.state_dict().items()}
        for index, moments in optimizer.items():
            tensors |= {f"{_OPTIMIZER}{index}.{name}": value for name, value in moments.items()}
        tensors |= {f"{_GENERATOR}{name}": value for name, value in _generators().items()}
        state = {
            _LOSSES: [loss.item() for loss in statistics.losses],
            "examples_seen": statistics.examples_seen,
            "dev_score": statistics.dev_score,
            "schedule": schedule,
            "decay": parts.decay.factor,
            "masks": parts.masks.state() if parts.masks else None,
            "early_stopping": asdict(parts.early_stopping),
        }
        arrays = {name: value.detach().cpu().numpy() for name, value in tensors.items()}
        facts = {_STATE: json.dumps(state), _IDENTITY: self._identity}
        try:
            with atomic_write(self.file) as path:
                save_arrays(arrays, path, facts)
        except OSError as failure:
            _LOGGER.warning("The training cannot be saved (%s), and goes on. An interruption would lose it.", failure)
            self._interval = math.inf
        self._saved = time.monotonic()

    def restore(self, parts: TrainingParts) -> TrainingStatistics:
        """Set a training that has not begun to the saved state, in place; without one, nothing changes."""
        state = self._read_state()
        if state is None:
            return TrainingStatistics()
        device = next(parts.model.parameters()).device
        tensors = load_file(self.file)
        parts.model.load_state_dict(_below(tensors, _MODEL))
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in _below(tensors, _OPTIMIZER).items():
            index, _, moment = name.partition(".")
            moments.setdefault(int(index), {})[moment] = value
        parts.step.load_state(moments, state["schedule"])
        _set_generators(_below(tensors, _GENERATOR))
        parts.decay.factor = state["decay"]
        if parts.masks and state["masks"]:
            parts.masks.load_state(state["masks"])
        for name, value in state["early_stopping"].items():
            setattr(parts.early_stopping, name, value)
        losses = list(torch.tensor(state[_LOSSES], device=device).unbind())
        return TrainingStatistics(losses, state["examples_seen"], state["dev_score"])

    def _read_state(self) -> dict[str, Any] | None:
        if not self.file.is_file():
            return None
        try:
            with safe_open(self.file, "pt") as file:
                facts = file.metadata() or {}
        except (OSError, SafetensorError):  # not a file of this class
            return None
        return json.loads(facts[_STATE]) if facts.get(_IDENTITY) == self._identity else None


def _below(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _generators() -> dict[str, torch.Tensor]:
    """The states of PyTorch's random generators, uint8."""
    states = {"cpu": torch.get_rng_state()}
    return states | ({"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {})


def _set_generators(states: Mapping[str, torch.Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
