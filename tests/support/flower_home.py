"""A Flower home for one test; importable without pytest."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import psutil


@contextlib.contextmanager
def new_flower_home(home: Path) -> Iterator[dict[str, str]]:
    """The environment variables of a new Flower home. At the end, all processes that have it are killed."""
    home.mkdir()
    quiet = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1"}
    try:
        yield {"FLWR_HOME": str(home), **quiet}
    finally:
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("FLWR_HOME") == str(home):
                    process.kill()
