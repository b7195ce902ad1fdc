"""examples/federation.toml in the federation of these tests, with small sizes."""

import tomllib
from pathlib import Path

import pytest
import tomli_w

from coldfusion_fl.config.tables import merged
from coldfusion_fl.runs.ledger import Ledger

pytestmark = pytest.mark.slow
EXAMPLE = Path(__file__).parents[3] / "examples" / "federation.toml"


def test_the_example_runs_in_a_federation(acme, tiny_base):
    """The members are those of the fixture, of which the third one is honest in the first round."""
    changes = {
        "base": str(tiny_base),
        "rounds": 1,
        "round-timeout": 120,
        "node-timeout": 120,
        "tasks": {"seen": "a, b, c"},
        "finetune": {"examples": 24, "epochs": 1, "max-length": 16},
        "evaluate": {"every": -1},
    }
    settings = acme.home / "federation.toml"
    settings.write_text(tomli_w.dumps(merged(tomllib.loads(EXAMPLE.read_text()), changes)))
    folder = acme.home / "example-run"
    ended = acme.coldfusion("run", settings, "--federation", acme.folder, "--out", folder, timeout=550)
    assert ended.returncode == 0, ended.stderr + (folder / "log.txt").read_text()
    record = Ledger(folder).record(1)
    assert record.contributions.keys() | {one.name for one in record.rejected} >= {"a", "b", "c"}
    assert len(record.contributions) >= 2
    assert "old" not in record.contributions
