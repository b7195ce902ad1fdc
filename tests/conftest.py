"""Fixtures for all tests; the builders of models and data are in support/tiny_models.py."""

import functools
import os
import shutil
import subprocess
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
# A test computes its scores, and leaves the user's own alone; the tests of the score cache name a place of theirs.
os.environ["COLDFUSION_CACHE"] = ""

import hypothesis
import pytest
from tiny_models import make_base, write_rows

# The same examples each time, so that a test that passed here passes in CI; a person may ask for more of them.
hypothesis.settings.register_profile("coldfusion", max_examples=40, deadline=None, derandomize=True)
hypothesis.settings.load_profile("coldfusion")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Where tests run in two processes, those of a file stay together, as they share fixtures.

    The tests that start Ray are one group, so that two Rays never share the two cores; it comes first, as it is the
    longest.
    """
    for item in items:
        if not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))
    items.sort(key=lambda item: item.get_closest_marker("xdist_group").args[0] != "ray")


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory) -> Path:
    """A tiny BERT whose folder says that it was pretrained with mean pooling."""
    folder = make_base(tmp_path_factory.mktemp("base") / "tiny-bert")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    (folder / "modules.json").write_text("[]")
    (folder / "README.md").write_text("the old card")
    return folder


@pytest.fixture(scope="session")
def toy_data(tmp_path_factory) -> Path:
    """A folder with the catalogue `toy.toml` and the rows of its five small tasks: a to d, and the unseen u."""
    folder = tmp_path_factory.mktemp("toy")
    tables = []
    for seed, name in enumerate("abcdu"):
        classes = ("animal", "food", "music")[: 2 + seed % 2]
        for split, rows in (("train", 60), ("validation", 18), ("test", 24)):
            write_rows(folder / name / f"{split}.jsonl", rows, seed * 10 + len(split), classes)
        tables.append(f'[tasks.{name}]\nfolder = "{name}"\n')
    (folder / "toy.toml").write_text("\n".join(tables))
    return folder


@pytest.fixture(scope="session")
def write_toy_run(toy_data, tiny_base):
    """Writes the settings of a toy run to a file and returns the file; what changes is TOML by dotted key."""

    def write(file: Path, **changes: str) -> Path:
        top = {
            "base": f'"{tiny_base}"',
            "rounds": "2",
            "contributors-per-round": "3",
            "seed": "3",
            "tasks.catalogue": f'"{toy_data / "toy.toml"}"',
            "tasks.seen": '"a, b, c, d"',
            "tasks.unseen": '"u"',
            "finetune.learning-rate": "1e-3",
            "finetune.epochs": "1",
            "finetune.examples": "32",
            "finetune.max-length": "16",
            "evaluate.train-examples": "30",
            "evaluate.test-examples": "24",
            "evaluate.shots": "12",
            "evaluate.few-shot-epochs": "1",
            "evaluate.few-shot-seeds": "1",
            **changes,
        }
        file.write_text("".join(f"{key} = {value}\n" for key, value in top.items() if value))
        return file

    return write


@pytest.fixture
def toy_run(write_toy_run, tmp_path):
    """Writes the settings of a toy run to this test's folder and returns the file; see `write_toy_run`."""
    return functools.partial(write_toy_run, tmp_path / "toy-run.toml")


@pytest.fixture
def small_disk(tmp_path):
    """Mounts a file system of a given size, such as "6m", and returns its folder; skips the test if mounting fails."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def make(size: str) -> Path:
        mount = shutil.which("mount")
        words = [mount, "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)]
        if not mount or subprocess.run(words, capture_output=True, check=False).returncode:
            pytest.skip("mounting a file system needs root")
        return disk

    yield make
    if os.path.ismount(disk):
        subprocess.run(["umount", str(disk)], check=True)
