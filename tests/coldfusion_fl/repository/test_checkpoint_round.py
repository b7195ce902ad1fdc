"""Checkpoints that came by hand are one more round of a run folder."""

import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tiny_models import make_base, make_checkpoint
from transformers import AutoModel

from coldfusion_fl.aggregation.server_optimizer import HeavyBall
from coldfusion_fl.arrays.blocks import update_norm
from coldfusion_fl.arrays.encoder import size_in_bytes
from coldfusion_fl.arrays.hashing import encoder_hash
from coldfusion_fl.atomic_files import sha256
from coldfusion_fl.checkpoints.fusing import fuse_checkpoints
from coldfusion_fl.errors import ErrorCode, MismatchError, ModelError, RunFolderError, SettingsError
from coldfusion_fl.formatting import size
from coldfusion_fl.model.base import Base
from coldfusion_fl.repository import checkpoint_round
from coldfusion_fl.repository.checkpoint_round import fuse_into_run
from coldfusion_fl.repository.round_options import RoundOptions
from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.runs.lineage import lineage
from coldfusion_fl.runs.report import summarize
from coldfusion_fl.runs.status import run_status


@pytest.fixture
def run(three, tiny_base, tmp_path):
    """A run with one round of two checkpoints."""
    fuse_into_run(tmp_path / "run", three[:2], base=str(tiny_base))
    return tmp_path / "run"


@pytest.fixture
def scored(monkeypatch, encoder):
    """The server's own score is minus the distance from the first base; returns the options that need it."""
    monkeypatch.setattr(checkpoint_round, "checked_score", lambda *given: lambda found: -update_norm(encoder, found))
    return RoundOptions(server_validation="a", rollback=5.0)


def contents(folder):
    return {str(path.relative_to(folder)): sha256(path) for path in folder.rglob("*") if path.is_file()}


def mean_of(folders, encoder):
    arrays = [load_file(f"{folder}/model.safetensors") for folder in folders]
    return {name: np.mean([one[f"bert.{name}"] for one in arrays], axis=0) for name in encoder}


def test_a_new_run_begins_with_the_base_and_its_first_round(run, three, tiny_base, encoder):
    ledger = Ledger(run)
    assert [record.round for record in ledger.records()] == [0, 1]
    assert ledger.record(0).base_sha256 == encoder_hash(encoder)
    expected = fuse_checkpoints(three[:2], str(tiny_base))
    record = ledger.record(1)
    assert record.base_sha256 == expected.sha256
    assert record.fused
    assert sorted(record.contributions) == ["labels-2", "labels-3"]
    for fused in expected.checkpoints:
        name = fused.checkpoint.folder.name
        found = record.contributions[name]
        assert (found.sha256, found.norm, found.share) == (fused.sha256, fused.norm, 0.5)
        assert record.checkpoints[name].reference == fused.checkpoint.reference
    assert record.sampled == []  # nobody is waited for in a later round
    assert ledger.state.state == "finished"
    assert len(lineage(ledger, check=True)) == 2
    assert [event.kind for event in ledger.events()] == [
        "run-started", "round-started", "contribution-received", "contribution-received", "round-fused", "run-finished",
    ]  # fmt: skip


def test_a_new_run_records_the_commit_of_its_base(three, tiny_base, tmp_path, monkeypatch):
    monkeypatch.setattr(Base, "commit", "c" * 40)
    added = fuse_into_run(tmp_path / "run", three[:1], base=str(tiny_base))
    assert added.ledger.base_commit == "c" * 40


def test_the_run_folder_has_the_model_the_card_and_the_report(run, three, encoder, tmp_path):
    weights = {name: array.numpy() for name, array in AutoModel.from_pretrained(run / "model").state_dict().items()}
    for name, array in mean_of(three[:2], encoder).items():
        np.testing.assert_allclose(weights[name], array, rtol=1e-5, atol=1e-7)
    card = (run / "model" / "README.md").read_text()
    assert "In each round, finetuned checkpoints were fused" in card
    assert all(f"| 1 | `{name}` |" in card for name in ("labels-2", "labels-3"))
    assert str(tmp_path) not in card
    assert not any(folder in card for folder in three)
    assert "labels-2" in (run / "report.html").read_text()
    assert summarize(Ledger(run))["rejected"] == []
    status = run_status(Ledger(run))
    assert (status.state, status.round, status.rounds) == ("finished", 1, None)
    assert {member.name: member.fused for member in status.members} == {"labels-2": 1, "labels-3": 1}


def test_the_next_round_starts_from_the_newest_base_and_keeps_the_momentum(three, tiny_base, tmp_path, encoder):
    options = RoundOptions(server_optimizer="heavy-ball(momentum=0.5)")
    fuse_into_run(tmp_path / "run", three[:2], base=str(tiny_base), options=options)
    added = fuse_into_run(tmp_path / "run", three[2:])
    optimizer = HeavyBall(momentum=0.5)
    base, state = optimizer(encoder, mean_of(three[:2], encoder), {})
    base, _ = optimizer(base, mean_of(three[2:], encoder), state)
    found = added.ledger.load_base(2)
    for name, array in base.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=1e-6)
    assert added.record.settings.server_optimizer == "heavy-ball(learning-rate=1, momentum=0.5)"
    lineage(added.ledger, check=True)


def test_options_replace_the_settings_for_one_round_and_are_recorded(three, tiny_base, tmp_path):
    folder = tmp_path / "run"
    fuse_into_run(folder, three, base=str(tiny_base), options=RoundOptions(server_optimizer="nesterov"))
    ledger = Ledger(folder)
    momentum = ledger.load_optimizer_state(1)
    other = RoundOptions(fusion="weighted-mean", weights=(1, 3, 4), server_optimizer="plain", screening="size")
    added = fuse_into_run(folder, three, options=other)
    made = added.record.settings
    assert (made.fusion, made.server_optimizer, made.screening[0][:5]) == (
        "weighted-mean(by=num-examples)", "plain", "size(",
    )  # fmt: skip
    shares = {name: found.share for name, found in added.record.contributions.items()}
    assert shares == {"labels-2": 0.125, "labels-3": 0.375, "labels-5": 0.5}
    kept = ledger.load_optimizer_state(2)  # the run's optimizer has lost nothing
    assert all(np.array_equal(kept[name], array) for name, array in momentum.items())
    assert ledger.settings["server"]["server-optimizer"] == "nesterov"
    warnings = added.record.checkpoints["labels-2"].warnings
    assert warnings == ["its encoder was fused in round 1 already."]


def test_the_screening_of_the_run_rejects_a_checkpoint_and_the_record_says_why(three, tiny_base, checkpoint, tmp_path):
    options = RoundOptions(screening="size")
    loud = checkpoint("loud", seed=9, size=1.0)
    added = fuse_into_run(tmp_path / "run", [*three, loud], base=str(tiny_base), options=options)
    assert sorted(added.record.contributions) == ["labels-2", "labels-3", "labels-5"]
    (rejection,) = added.record.rejected
    assert rejection.name == "loud"
    assert "too large" in rejection.reason
    assert rejection.facts.sha256
    assert run_status(added.ledger).members[-1].rejected == 1


def test_a_round_with_a_lower_score_is_not_taken(run, checkpoint, scored):
    before = Ledger(run).load_base(1)
    model = sha256(run / "model" / "model.safetensors")
    added = fuse_into_run(run, [checkpoint("far", seed=9, size=1.0)], options=scored)
    assert added.record.rolled_back
    assert not added.record.fused
    assert added.record.server_validation.after < added.record.server_validation.before
    assert encoder_hash(added.ledger.load_base(2)) == encoder_hash(before)
    assert sha256(run / "model" / "model.safetensors") == model
    assert run_status(added.ledger).round == 2
    lineage(added.ledger, check=True)


def test_the_settings_of_a_new_run_hold_for_its_later_rounds(three, tiny_base, tmp_path, scored, checkpoint):
    fuse_into_run(tmp_path / "run", three, base=str(tiny_base), options=RoundOptions(server_validation="a", rollback=9))
    added = fuse_into_run(tmp_path / "run", [checkpoint("far", seed=9, size=1.0)])
    assert added.record.rolled_back
    assert added.record.settings.rollback == 9


def test_names_are_the_shortest_paths_that_differ(checkpoint, tiny_base, tmp_path):
    given = [checkpoint(f"{person}/news/step-5", seed=seed) for seed, person in enumerate(("alice", "bob"))]
    added = fuse_into_run(tmp_path / "run", [*given, checkpoint("reviews", seed=7)], base=str(tiny_base))
    assert sorted(added.record.contributions) == ["alice/news/step-5", "bob/news/step-5", "reviews"]
    with pytest.raises(SettingsError, match="is given twice"):
        fuse_into_run(tmp_path / "run", [given[0], given[0] + "/."])


@pytest.fixture
def bad(checkpoint, tmp_path):
    """Makes a checkpoint that cannot be fused."""

    def make(kind):
        if kind == "architecture":
            return str(make_checkpoint(tmp_path / "bad", make_base(tmp_path / "wide", hidden_size=64), 1))
        folder = checkpoint("bad")
        file = f"{folder}/model.safetensors"
        weights = load_file(file)
        weights["bert.embeddings.word_embeddings.weight"][5] = np.nan
        save_file(weights, file, {"format": "pt"})
        if kind == "file":
            shutil.move(file, f"{folder}/weights.bin")
        return folder

    return make


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("architecture", MismatchError, "bad: its architecture differs from the base's: hidden_size 64"),
        ("values", MismatchError, "bad: 'embeddings.word_embeddings.weight' holds values that are not finite"),
        ("file", ModelError, "bad: there are no weights"),
    ],
)
def test_a_bad_checkpoint_is_named_before_anything_is_written(run, three, tiny_base, bad, kind, error, message):
    folder, before = bad(kind), contents(run)
    with pytest.raises(error, match=message):
        fuse_into_run(run, [three[2], folder])
    assert contents(run) == before
    with pytest.raises(error, match=message):
        fuse_into_run(run.parent / "new", [three[2], folder], base=str(tiny_base))
    assert not (run.parent / "new").exists()


def test_a_run_that_is_running_gets_no_round(run, three):
    before = contents(run)
    with Ledger(run).lock(), pytest.raises(RunFolderError, match="another process is working on this run") as error:
        fuse_into_run(run, three[2:])
    assert error.value.code == ErrorCode.RUN_LOCKED
    assert contents(run) == before


def test_what_is_no_run_folder_or_another_programs_is_not_continued(three, tiny_base, tmp_path):
    with pytest.raises(RunFolderError, match=r"has no run\.json.*--base BASE"):
        fuse_into_run(tmp_path / "nowhere", three)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(RunFolderError, match="is not empty"):
        fuse_into_run(tmp_path / "full", three, base=str(tiny_base))
    Ledger.create(tmp_path / "own", {"lr": 1})
    with pytest.raises(SettingsError, match="another program wrote this run"):
        fuse_into_run(tmp_path / "own", three)


def test_a_run_keeps_its_base(run, three, tiny_base, tmp_path):
    other = make_checkpoint(tmp_path / "other", tiny_base, seed=4)
    with pytest.raises(RunFolderError, match="is not the base that the run began with"):
        fuse_into_run(run, three[2:], base=str(other))
    moved = shutil.copytree(tiny_base, tmp_path / "moved")
    assert fuse_into_run(run, three[2:], base=str(moved)).record.round == 2


def test_fewer_checkpoints_than_the_run_needs_are_rejected(three, tiny_base, tmp_path):
    fuse_into_run(tmp_path / "run", three, base=str(tiny_base), options=RoundOptions(min_contributions=2))
    with pytest.raises(SettingsError, match="there is 1 checkpoint, but min-contributions of the run is 2"):
        fuse_into_run(tmp_path / "run", three[:1])
    added = fuse_into_run(tmp_path / "run", three[:1], options=RoundOptions(min_contributions=1))
    assert added.record.settings.min_contributions == 1


@pytest.mark.parametrize(("ema", "is_new", "encoders"), [(0.0, False, 3), (0.0, True, 4), (0.5, False, 5)])
def test_the_space_for_all_files_is_checked(run, three, tiny_base, encoder, monkeypatch, ema, is_new, encoders):
    needed = encoders * size_in_bytes(encoder)
    facts = run / "run.json"
    facts.write_text(facts.read_text().replace('"ema": 0.0', f'"ema": {ema}'))
    folder, base = (run.parent / "new", str(tiny_base)) if is_new else (run, "")
    monkeypatch.setattr("shutil.disk_usage", lambda place: SimpleNamespace(free=needed - 1))
    with pytest.raises(RunFolderError, match=f"needs {re.escape(size(needed))} of disk space"):
        fuse_into_run(folder, three[2:], base=base)
    monkeypatch.setattr("shutil.disk_usage", lambda place: SimpleNamespace(free=needed))
    assert fuse_into_run(folder, three[2:], base=base).is_new


def test_the_same_call_adds_no_second_round(run, three):
    before = [record.to_json() for record in Ledger(run).records()]
    again = fuse_into_run(run, three[:2])
    assert not again.is_new
    assert [record.to_json() for record in again.ledger.records()] == before
    assert fuse_into_run(run, three[:2], options=RoundOptions(weights=(2, 1))).is_new
    assert not fuse_into_run(run, three[:2], options=RoundOptions(weights=(2, 1))).is_new
    assert fuse_into_run(run, three[:2], options=RoundOptions(fusion="median")).is_new


def test_other_licences_are_named_and_the_card_claims_none(run, checkpoint, tiny_base, tmp_path):
    folder = checkpoint("other", seed=8)
    (tmp_path / "other" / "README.md").write_text("---\nlicense: gpl-3.0\n---\n")
    fuse_into_run(run, [folder])
    card = (run / "model" / "README.md").read_text()
    assert "Some checkpoints have other licences, and their terms count too: other: gpl-3.0." in card
    assert "\nlicense:" not in card


def test_an_average_of_the_bases_is_the_result_where_the_run_has_one(run, three, encoder):
    facts = run / "run.json"
    facts.write_text(facts.read_text().replace('"ema": 0.0', '"ema": 0.5'))
    fuse_into_run(run, three[2:])
    added = fuse_into_run(run, three[:1])
    last, average = added.ledger.load_base(3), added.ledger.load_average(3)
    assert encoder_hash(average) != encoder_hash(last)
    saved = AutoModel.from_pretrained(run / "last-base").state_dict()
    assert all(np.array_equal(saved[name].numpy(), last[name]) for name in encoder)
    saved = AutoModel.from_pretrained(run / "model").state_dict()
    assert all(np.array_equal(saved[name].numpy(), average[name]) for name in encoder)
