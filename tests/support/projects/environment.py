"""An environment as somebody else has it, and the commands of it; importable without pytest."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
FOREIGN = ROOT / "tests" / "strategies" / "foreign"
# What a build does not need: in the checkout's own folder, and in every folder.
OURS = {"build", "dist", "runs", "shared", "tests", "docs"}
_ANYWHERE = shutil.ignore_patterns("*.egg-info", "__pycache__", ".*")


def own_environment():
    """Without another environment's packages, which Flower's simulation in an earlier test puts on the path."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}


def call(*words, timeout=300, env=None, **more):
    """The output of a command; if it fails, its last lines are the error."""
    done = subprocess.run(
        [str(word) for word in words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
        env=env or own_environment(),
        **more,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


def build_wheel(scratch: Path) -> Path:
    """Our wheel, built from a copy, so that the checkout stays as it is."""
    shutil.copytree(ROOT, scratch / "ours", ignore=_not_needed)
    pip = (sys.executable, "-m", "pip")
    call(*pip, "wheel", "--quiet", "--no-deps", ".", "-w", scratch / "wheels", cwd=scratch / "ours")
    return next((scratch / "wheels").glob("coldfusion_fl-*.whl"))


def _not_needed(folder: str, names: list[str]) -> set[str]:
    return _ANYWHERE(folder, names) | (OURS if Path(folder) == ROOT else set())


def make_environment(scratch: Path, wheel: Path) -> Path:
    """The bin folder of a fresh environment: our wheel with Flower's simulation, and what the foreign projects need."""
    call(sys.executable, "-m", "venv", scratch / "venv")
    folder = scratch / "venv" / "bin"
    install = (folder / "python", "-m", "pip", "install", "--quiet")
    constrained = (*install, "--constraint", ROOT / "constraints.txt")
    call(*constrained, "torch==2.13.0", timeout=900)
    call(*constrained, f"{wheel}[simulation]", "scikit-learn", timeout=900)
    return folder
