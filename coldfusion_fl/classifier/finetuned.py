"""A classifier that was finetuned here: it predicts, knows its score, and is saved with its card."""

import os
from dataclasses import dataclass, field, fields
from pathlib import Path

from coldfusion_fl.arrays.encoder import Encoder
from coldfusion_fl.arrays.hashing import encoder_hash
from coldfusion_fl.atomic_files import atomic_write, disk_errors
from coldfusion_fl.classifier.card import classifier_card
from coldfusion_fl.classifier.folder import Classifier, save_classifier, to_classifier
from coldfusion_fl.classifier.onnx_export import export_onnx
from coldfusion_fl.classifier.training import TrainedClassifier, train_classifier
from coldfusion_fl.config.settings import FinetuneSettings
from coldfusion_fl.data.catalogue import TaskSpec
from coldfusion_fl.data.task import Task
from coldfusion_fl.errors import ErrorCode, SettingsError
from coldfusion_fl.extras import EXTRAS, require
from coldfusion_fl.model.base import Base
from coldfusion_fl.training.checkpoint import TrainingCheckpoint
from coldfusion_fl.training.finetune import Progress


@dataclass(frozen=True)
class FinetunedClassifier(Classifier):
    """A classifier that `finetune_classifier` made.

    Attributes:
        score: of all rows of the test split, in points.
        baseline: the score of always predicting the most frequent class of train, or its mean, in points.
        metric: the task's metric.
        card: the model card, Markdown.
    """

    score: float
    baseline: float
    metric: str
    card: str = field(repr=False)

    def save(self, out: str | os.PathLike[str], *, onnx: bool = False) -> Path:
        """Write the classifier as a folder in Hugging Face format, with its model card.

        `coldfusion_fl.load_classifier` and `coldfusion predict` read it, and so does transformers. The folder appears
        when it is complete.

        Args:
            out: the folder to create.
            onnx: whether to write `onnx/model.onnx` too, for programs without PyTorch; see `export_onnx`.

        Returns:
            The folder.

        Raises:
            SettingsError: the path exists already, or its parent does not; or a package that ONNX needs is missing.
            ModelError: the model cannot be exported to ONNX.
            RunFolderError: the disk is full or cannot be written.
        """
        folder = check_new_folder(out)
        if onnx:
            require("onnx=True", *EXTRAS["onnx"])
        with disk_errors(folder.parent, left="Nothing was left there."), atomic_write(folder) as temporary:
            save_classifier(self, temporary)
            if onnx:
                export_onnx(self, temporary)
            (temporary / "README.md").write_text(self.card, encoding="utf-8")
        return folder


def check_new_folder(out: str | os.PathLike[str]) -> Path:
    """The absolute path of a folder to create.

    Raises:
        SettingsError: the path exists already, or its parent does not.
    """
    folder = Path(out).expanduser().resolve()
    if folder.exists():
        raise SettingsError(f"{out}: this path exists already. Name a new folder.", ErrorCode.SETTINGS_CONFLICT)
    if not folder.parent.is_dir():
        raise SettingsError(f"{out}: the folder {folder.parent} does not exist. Create it first.")
    return folder


def finetune_classifier(
    base: Base,
    encoder: Encoder,
    task: Task,
    settings: FinetuneSettings,
    seed: int,
    progress: Progress | None = None,
    spec: TaskSpec | None = None,
    *,
    kept_head: Encoder | None = None,
    trains: bool = True,
    checkpoint: TrainingCheckpoint | None = None,
    is_fused: bool = False,
) -> FinetunedClassifier:
    """Finetune a base with a head on a task: see `train_classifier`, which has the same arguments.

    Args:
        base: the base.
        encoder: its arrays by name.
        task: the task.
        settings: the schedule and the head.
        seed: of the drawn rows, the head and the training.
        progress: see `finetune`.
        spec: the task in its catalogue, for the card; None: it is not known.
        kept_head: the arrays of the head to start with; None: a new head.
        trains: whether to train; if not, encoder and head are scored as they are.
        checkpoint: see `finetune`.
        is_fused: see `card.classifier_card`.

    Raises:
        MismatchError: the training diverged.
    """
    trained = train_classifier(
        base, encoder, task, settings, seed, progress, kept_head=kept_head, trains=trains, checkpoint=checkpoint
    )
    base_hash = encoder_hash(encoder)
    made = to_classifier(base, trained.model, trained.head, task, settings.max_length, base_hash)
    card = classifier_card(base, base_hash, task, trained, settings, seed, spec, is_fused=is_fused)
    return _with_score(made, trained, task.metric, card)


def _with_score(made: Classifier, trained: TrainedClassifier, metric: str, card: str) -> FinetunedClassifier:
    parts = {one.name: getattr(made, one.name) for one in fields(Classifier)}
    return FinetunedClassifier(**parts, score=trained.score, baseline=trained.baseline, metric=metric, card=card)
