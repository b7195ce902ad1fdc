"""The last round of checkpoints can be taken back, and nothing of it is lost."""

import io
import shutil

import pytest
from rich.console import Console
from tiny_models import make_base

from coldfusion_fl.arrays.hashing import encoder_hash
from coldfusion_fl.atomic_files import sha256
from coldfusion_fl.errors import ErrorCode, RunFolderError, SettingsError
from coldfusion_fl.repository import undo
from coldfusion_fl.repository.checkpoint_round import fuse_into_run
from coldfusion_fl.repository.round_options import RoundOptions
from coldfusion_fl.repository.undo import undo_round
from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.runs.lineage import lineage, print_lineage
from coldfusion_fl.runs.records import RoundRecord


@pytest.fixture
def run(three, tiny_base, tmp_path):
    """A run with two rounds of checkpoints and a momentum."""
    options = RoundOptions(server_optimizer="nesterov")
    fuse_into_run(tmp_path / "run", three[:2], base=str(tiny_base), options=options)
    fuse_into_run(tmp_path / "run", three[2:])
    return tmp_path / "run"


def model_hash(run):
    return sha256(run / "model" / "model.safetensors")


def test_the_run_is_as_it_was_before_the_round(run, three):
    last = Ledger(run).record(2)
    with_round = model_hash(run)
    assert undo_round(run, 2) == run / "undone" / "002"
    ledger = Ledger(run)
    assert ledger.rounds() == [0, 1]
    assert ledger.state.last_round == 1
    assert ledger.state.state == "finished"
    assert model_hash(run) != with_round
    assert len(lineage(ledger, check=True)) == 2
    assert [event.kind for event in ledger.events()][-3:] == ["run-started", "round-undone", "run-finished"]
    again = fuse_into_run(run, three[2:])  # the momentum is that of round 1, so the base is the same
    assert again.record.base_sha256 == last.base_sha256
    assert model_hash(run) == with_round


def test_the_files_of_the_round_are_kept_and_the_log_says_where(run):
    files = {path.name: sha256(path) for path in (run / "rounds" / "002").iterdir()}
    target = undo_round(run, 2)
    assert {path.name: sha256(path) for path in target.iterdir()} == files
    console = Console(file=io.StringIO(), width=200)
    print_lineage(Ledger(run), lineage(Ledger(run)), console)
    assert f"Rounds that were undone, in {run / 'undone'}: 002" in console.file.getvalue()


def test_each_undone_round_has_a_folder_of_its_own(run, three):
    undo_round(run, 2)
    fuse_into_run(run, three[:1])
    assert undo_round(run, 2).name == "002-2"
    assert undo_round(run, 1).name == "001"
    assert Ledger(run).rounds() == [0]
    assert "none" in (run / "model" / "README.md").read_text()


def test_the_same_call_undoes_no_other_round_and_writes_what_a_kill_left_out(run, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    after = model_hash(run)
    with monkeypatch.context() as patched:
        patched.setattr(undo, "write_results", killed)
        with pytest.raises(KeyboardInterrupt):
            undo_round(run, 2)
    assert model_hash(run) == after
    assert undo_round(run, 2) == run / "undone" / "002"
    assert Ledger(run).rounds() == [0, 1]
    assert model_hash(run) != after


def test_only_the_last_round_of_checkpoints_can_be_undone(run):
    with pytest.raises(SettingsError, match="only the last round can be undone, and it is round 2"):
        undo_round(run, 1)
    ledger = Ledger(run)
    base = ledger.load_base(2)
    ledger.save_round(base, RoundRecord(round=3, base_sha256=encoder_hash(base), settings=ledger.record(2).settings))
    with pytest.raises(SettingsError, match="round 3 cannot be undone, because contributors trained in it"):
        undo_round(run, 3)
    with ledger.lock(), pytest.raises(RunFolderError, match="another process is working on this run"):
        undo_round(run, 3)


def test_a_round_stays_where_the_one_before_has_no_arrays(run):
    Ledger(run).keep_last(1)
    with pytest.raises(RunFolderError, match="the arrays of round 1 were removed"):
        undo_round(run, 2)
    assert Ledger(run).rounds() == [0, 1, 2]
    assert Ledger(run).events()[-1].kind == "run-finished"


def test_the_first_base_cannot_be_undone(run):
    undo_round(run, 2)
    undo_round(run, 1)
    shutil.rmtree(run / "undone")
    with pytest.raises(SettingsError, match="the run has its first base alone"):
        undo_round(run, 0)


def test_a_round_stays_where_the_base_is_of_another_model(run, tmp_path):
    other = make_base(tmp_path / "other", "bert", intermediate_size=48)
    with pytest.raises(RunFolderError, match="is another model than the run's first base") as error:
        undo_round(run, 2, base=str(other))
    assert error.value.code == ErrorCode.RUN_CHANGED
    assert Ledger(run).rounds() == [0, 1, 2]
    assert not (run / "undone").exists()


def test_what_does_not_belong_into_the_folder_is_named_and_stays(run):
    (run / "rounds" / "notes").mkdir()
    said = []
    undo_round(run, 2, warn=said.append)
    assert len(said) == 1 and "notes: this is not the folder of a round" in said[0]
    assert (run / "rounds" / "notes").is_dir()
    assert Ledger(run).rounds() == [0, 1]
