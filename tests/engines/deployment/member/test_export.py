"""A member takes home a classifier of what it has kept of a run; docs/how-to/federation.md does it in a real one."""

import os
import re
from dataclasses import replace

import numpy as np
import pytest
from acme import fill_in

from coldfusion_fl.arrays.hashing import encoder_hash
from coldfusion_fl.atomic_files import write_json
from coldfusion_fl.classifier import open_classifier
from coldfusion_fl.config.settings import FinetuneSettings
from coldfusion_fl.config.tables import to_table
from coldfusion_fl.data.task import load_task
from coldfusion_fl.engines.deployment.member.export import export_classifier, read_kept_model
from coldfusion_fl.engines.deployment.member.join import flower_home
from coldfusion_fl.engines.deployment.member.settings import member_toml, read_member
from coldfusion_fl.errors import DeploymentError, MismatchError
from coldfusion_fl.model.base import open_base
from coldfusion_fl.model.encoder import build_model, load_encoder, merge, split, split_head
from coldfusion_fl.training.node_state import BASE, FINETUNING, HEAD, NodeFiles, contributor_folder

SETTINGS = FinetuneSettings(epochs=1, max_length=16, learning_rate=1e-3, keep_head=True)


@pytest.fixture
def member(tmp_path, toy_data, tiny_base):
    """The folder of a member that has joined before."""
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "member.toml").write_text(member_toml("a", "acme", "localhost:9443"))
    fill_in(folder, "a", toy_data, tiny_base)
    return folder


@pytest.fixture
def keep(member, tiny_base):
    """Keeps a base, and a head, as the member's node does in a run; returns the model that they are of."""
    base = open_base(str(tiny_base))

    def make(run, server_round, with_head=True, outputs=None):
        task = load_task("a", read_member(member).catalogue)
        model = build_model(base, outputs or task.num_labels, "mean", seed=server_round)
        merge(model, {n: array + np.float32(0.01 * server_round) for n, array in load_encoder(base).items()})
        files = NodeFiles(contributor_folder(flower_home(member) / "state", run))
        files.save(BASE, server_round, split(model), kept=1)
        if with_head:
            files.save(HEAD, server_round, split_head(model, split(model)))
        write_json(files.folder / FINETUNING, to_table(SETTINGS))
        return model

    return make


def test_without_training_the_classifier_is_the_base_with_the_kept_head(member, keep, tmp_path):
    model = keep("run/1", 3)
    export_classifier(read_member(member), member, tmp_path / "mine", trains=False)
    found = open_classifier(str(tmp_path / "mine")).model
    assert encoder_hash(split(found)) == encoder_hash(split(model))
    assert np.array_equal(found.head.weight.detach(), model.head.weight.detach())
    card = (tmp_path / "mine" / "README.md").read_text()
    assert "the head that the task's contributor kept in the run, without further training" in card
    assert "from a fused base of a run that began with" in card


@pytest.mark.parametrize("with_head", [True, False])
def test_with_training_encoder_and_head_change(member, keep, tmp_path, capsys, with_head):
    model = keep("run", 3, with_head)
    export_classifier(read_member(member), member, tmp_path / "mine")
    found = open_classifier(str(tmp_path / "mine"))
    assert not np.array_equal(found.model.head.weight.detach(), model.head.weight.detach())
    assert found.max_length == SETTINGS.max_length
    assert ("a new head" in capsys.readouterr().out) is not with_head


def test_a_new_head_needs_training(member, keep, tmp_path):
    keep("run", 3, with_head=False)
    with pytest.raises(DeploymentError, match="kept no head"):
        export_classifier(read_member(member), member, tmp_path / "mine", trains=False)
    assert not (tmp_path / "mine").exists()


def test_a_head_for_other_classes_is_an_error(member, keep, tmp_path):
    keep("run", 3, outputs=7)
    with pytest.raises(MismatchError, match="does not fit"):
        export_classifier(read_member(member), member, tmp_path / "mine", trains=False)
    assert not (tmp_path / "mine").exists()


def test_the_newest_run_is_the_default_and_another_can_be_named(member, keep):
    keep("one/1", 5)
    keep("two", 2)
    assert (read_kept_model(member).run, read_kept_model(member).server_round) == ("two", 2)
    assert read_kept_model(member, "one").run == "one/1"
    with pytest.raises(DeploymentError, match=r"of a run 'three', but of one/1 \(round 5, kept on 20.*; two \(round 2"):
        read_kept_model(member, "three")


def test_a_run_is_named_by_its_time_and_round_and_others_are_listed(member, keep, tmp_path, capsys):
    keep("aaaa-1", 5)
    keep("bbbb-2", 2)
    for run, when in (("aaaa-1", 1.7e9), ("bbbb-2", 1.8e9)):
        os.utime(contributor_folder(flower_home(member) / "state", run) / FINETUNING, (when, when))
    export_classifier(read_member(member), member, tmp_path / "mine", trains=False)
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert re.match(r"The base of round 2, which a evaluated on 2027-01-1\d \d\d:\d\d, with ", first)
    assert "localhost:9443" not in first and "bbbb-2" in first
    assert re.search(r"other runs too. Choose with --run: aaaa-1 \(round 5, kept on 2023-11-1\d", second)


def test_of_many_runs_the_newest_are_listed(member, keep, monkeypatch):
    monkeypatch.setattr("coldfusion_fl.engines.deployment.member.export._SHOWN_RUNS", 2)
    for number, run in enumerate(("first", "second", "third", "fourth"), start=1):
        keep(run, number)
        os.utime(contributor_folder(flower_home(member) / "state", run) / FINETUNING, (1.7e9, 1.7e9 + number))
    assert re.fullmatch(r"1 older; second \(round 2.*\); third \(round 3.*\)", read_kept_model(member).others)


@pytest.mark.parametrize(
    ("answer", "words"), [(0, "no better than {}: 75.0 against 75.0 points"), (1, "below {}: 25.0 against 75.0 points")]
)
def test_a_classifier_of_one_answer_is_warned_of_with_both_figures(
    member, keep, tmp_path, capsys, monkeypatch, answer, words
):
    task = load_task("a", read_member(member).catalogue)
    rows = [np.flatnonzero(task.test.labels == label)[:number] for label, number in ((0, 9), (1, 3))]
    task = replace(task, test=task.test.take(np.concatenate(rows)))  # three quarters are of class 0
    monkeypatch.setattr("coldfusion_fl.data.task.load_task", lambda *_: task)
    head = {
        "head.weight": 0 * keep("run", 1).head.weight.detach().numpy(),
        "head.bias": np.eye(2, dtype=np.float32)[answer],
    }
    NodeFiles(contributor_folder(flower_home(member) / "state", "run")).save(HEAD, 1, head)
    export_classifier(read_member(member), member, tmp_path / "mine", trains=False)
    out = " ".join(capsys.readouterr().out.split())
    warning = words.format("always answering the most frequent class")
    assert f"Warning: the classifier is {warning}. Do not use it" in out
    assert "Leave out --no-training" in out


def test_a_member_that_has_evaluated_nothing_has_nothing_to_take_home(member):
    with pytest.raises(DeploymentError, match="has kept no base"):
        read_kept_model(member)
