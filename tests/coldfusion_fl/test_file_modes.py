"""What is written has the mode that the system gives to new files, though safetensors lets its owner alone read."""

import os
import stat

import numpy as np
import pytest

from coldfusion_fl.checkpoints.fusing import fuse_checkpoints
from coldfusion_fl.checkpoints.saving import save_fusion
from coldfusion_fl.classifier.folder import save_classifier, to_classifier
from coldfusion_fl.model.encoder import build_model
from coldfusion_fl.model.export import save_model
from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.runs.records import RoundRecord


def write_round(base, encoder, task, folder):
    Ledger.create(folder, {}).save_round({"w": np.zeros(2)}, RoundRecord(round=0), {"v": np.zeros(2)})


def write_model(base, encoder, task, folder):
    save_model(base, encoder, folder)


def write_classifier(base, encoder, task, folder):
    model = build_model(base, task.num_labels, "class-token", 0)
    save_classifier(to_classifier(base, model, "class-token", task, 16), folder)


def write_fusion(base, encoder, task, folder):
    save_fusion(fuse_checkpoints([base.reference], base.reference), folder)


@pytest.mark.parametrize("write", [write_round, write_model, write_classifier, write_fusion])
@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_files_and_folders_have_the_mode_of_new_ones(base, encoder, task, tmp_path, write, mask):
    before = os.umask(mask)
    try:
        write(base, encoder, task, tmp_path / "out")
    finally:
        os.umask(before)
    paths = list((tmp_path / "out").rglob("*"))
    assert any(path.suffix == ".safetensors" for path in paths)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in paths}
    assert modes == {path: (0o777 if path.is_dir() else 0o666) & ~mask for path in paths}
