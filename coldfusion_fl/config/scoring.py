"""How models are scored: the settings of `coldfusion evaluate` and `compare`, and of the same functions in Python."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from coldfusion_fl.config.parsing import parse_table
from coldfusion_fl.config.settings import MODES, EvaluateSettings, FinetuneSettings, ScoringSettings, Settings
from coldfusion_fl.config.tables import to_table
from coldfusion_fl.errors import SettingsError


@dataclass(frozen=True)
class Schedule:
    """How models are scored.

    Attributes:
        mode: one of `settings.MODES`.
        finetuning: the schedule and the head.
        evaluating: the numbers of rows, shots and seeds.
        seed: the seed of the drawn rows, the heads and the training.
    """

    mode: str
    finetuning: FinetuneSettings
    evaluating: EvaluateSettings
    seed: int


def make_schedule(
    default: Settings | ScoringSettings | None,
    mode: str,
    seed: int | None,
    finetune: Mapping[str, Any],
    evaluate: Mapping[str, Any],
    names: tuple[str, str] = ("mode", "the settings"),
) -> Schedule:
    """Make a schedule of a run's settings and of what is given beside them.

    Args:
        default: the settings of a run or a file; None: the usual ones.
        mode: the kind of score.
        seed: the seed; None: that of the default settings, or 0.
        finetune: settings of the table `finetune` that replace the defaults, with dashed keys.
        evaluate: likewise of the table `evaluate`.
        names: what the mode and the other settings are called, for messages.

    Raises:
        SettingsError: the mode is unknown, a setting is wrong, or a few-shot score has no shots.
    """
    of_mode, of_settings = names
    if mode not in MODES:
        raise SettingsError(f"{of_mode} must be one of {', '.join(MODES)}, but is '{mode}'.")
    before = (default.finetune, default.evaluate) if default else (FinetuneSettings(), EvaluateSettings())
    of_evaluate = list(to_table(before[1]))
    finetuning = parse_table(FinetuneSettings, to_table(before[0]) | dict(finetune), of_settings, beside=of_evaluate)
    evaluating = parse_table(EvaluateSettings, to_table(before[1]) | dict(evaluate), of_settings)
    if mode == "few-shot" and not evaluating.shots:
        raise SettingsError(
            f"{of_settings}: evaluate.shots is 0, but a few-shot score needs shots. Set it to 1 or more."
        )
    return Schedule(mode, finetuning, evaluating, seed if seed is not None else default.seed if default else 0)
