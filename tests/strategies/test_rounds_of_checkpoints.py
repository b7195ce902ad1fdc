"""A run that got a round of checkpoints in between goes on from the new base."""

import numpy as np
import pytest
from fake_grid import FakeGrid
from flwr.app import ConfigRecord, MetricRecord, RecordDict
from tiny_models import make_checkpoint

from coldfusion_fl.config.parsing import parse_table
from coldfusion_fl.config.settings import Settings
from coldfusion_fl.config.tables import to_table
from coldfusion_fl.errors import SettingsError
from coldfusion_fl.model.base import open_base
from coldfusion_fl.model.encoder import load_encoder
from coldfusion_fl.repository.checkpoint_round import fuse_into_run
from coldfusion_fl.repository.round_options import RoundOptions
from coldfusion_fl.repository.undo import undo_round
from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.runs.lineage import lineage
from coldfusion_fl.runs.status import run_status
from coldfusion_fl.strategies import ColDFusion
from coldfusion_fl.strategies.nodes.array_records import move_to_record

SERVER = {"server-optimizer": "nesterov", "screening": "size"}


@pytest.fixture
def settings(tiny_base):
    table = {"base": str(tiny_base), "rounds": 2, "tasks": {"seen": ["a", "b"]}, "server": SERVER}
    return to_table(parse_table(Settings, table, "the test"))


def contributor(name, step):
    """Moves each weight of the base by the same amount."""

    def answer(message):
        if message.metadata.message_type == "query":
            return RecordDict({"config": ConfigRecord({"name": name})})
        base = {key: array.numpy() for key, array in message.content["arrays"].items()}
        if message.metadata.message_type == "evaluate":
            return RecordDict({"metrics": MetricRecord({"frozen": 50.0})})
        moved = {key: array + np.float32(step) for key, array in base.items()}
        return RecordDict({"arrays": move_to_record(moved), "metrics": MetricRecord({"num-examples": 10})})

    return answer


def train(folder, settings, rounds):
    ledger = Ledger.open(folder, settings | {"rounds": rounds})
    strategy = ColDFusion(
        contributor_names="query", min_available_nodes=2, server_optimizer="nesterov", screening="size", ledger=ledger
    )
    arrays = move_to_record(load_encoder(open_base(settings["base"])))
    grid = FakeGrid({100: contributor("a", 0.001), 101: contributor("b", 0.002)})
    strategy.start(grid, arrays, num_rounds=rounds, timeout=30)
    return ledger


@pytest.mark.parametrize("options", [None, RoundOptions(fusion="median", server_optimizer="plain")])
def test_the_run_resumes_from_the_base_of_the_checkpoints(settings, tiny_base, tmp_path, options):
    folder = tmp_path / "run"
    train(folder, settings, 2)
    momentum = Ledger(folder).load_optimizer_state(2)
    checkpoint = make_checkpoint(tmp_path / "by-hand", tiny_base, seed=1)
    options = options or RoundOptions(min_contributions=1)
    with pytest.raises(SettingsError, match="min-contributions of the run is 2"):
        fuse_into_run(folder, [str(checkpoint)])
    fuse_into_run(folder, [str(checkpoint)], options=RoundOptions(**{**vars(options), "min_contributions": 1}))
    base = Ledger(folder).load_base(3)
    assert Ledger(folder).state.state == "finished"
    if options.server_optimizer:  # the run's own optimizer goes on where it was
        state = Ledger(folder).load_optimizer_state(3)
        assert all(np.array_equal(state[name], array) for name, array in momentum.items())
    ledger = train(folder, settings, 5)
    assert [record.round for record in ledger.records()] == [0, 1, 2, 3, 4, 5]
    assert [record.checkpoints is not None for record in ledger.records()] == [False, False, False, True, False, False]
    assert ledger.record(4).sampled == ["a", "b"]
    assert ledger.record(4).missing == []  # the checkpoint is no contributor that could be waited for
    name, first = next(iter(base.items()))
    momenta = ledger.load_optimizer_state(3)[f"momentum/{name}"]
    delta = np.float32(0.0015)
    expected = first + np.float32(0.7) * (delta + np.float32(0.9) * (np.float32(0.9) * momenta + delta))
    np.testing.assert_allclose(ledger.load_base(4)[name], expected, rtol=1e-4, atol=1e-5)
    assert ledger.load_scores(3)  # the resumed run evaluated the base that it continues from
    assert len(lineage(ledger, check=True)) == 6
    status = run_status(ledger)
    assert (status.state, status.round, status.rounds) == ("finished", 5, 5)


def test_a_run_resumes_after_an_undone_round_as_if_it_had_never_been(settings, tiny_base, tmp_path):
    for name in ("with", "without"):
        train(tmp_path / name, settings, 1)
    checkpoint = make_checkpoint(tmp_path / "by-hand", tiny_base, seed=1)
    fuse_into_run(tmp_path / "with", [str(checkpoint)], options=RoundOptions(min_contributions=1))
    undo_round(tmp_path / "with", 2)
    one, other = (train(tmp_path / name, settings, 3) for name in ("with", "without"))
    assert one.record(3).base_sha256 == other.record(3).base_sha256
