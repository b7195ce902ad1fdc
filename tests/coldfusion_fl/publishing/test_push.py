"""A run goes to a Hub on loopback and comes back; what is there stays, and nothing private leaves."""

import shutil
from dataclasses import replace

import pytest
from huggingface_hub.repocard import ModelCard
from scored_runs import make_finished_run
from web.fake_hub import INVALID_TOKEN
from web.fake_hub_writes import READER

from coldfusion_fl.arrays.hashing import encoder_hash
from coldfusion_fl.errors import ErrorCode, HubError, ModelError, RunFolderError, SettingsError
from coldfusion_fl.model.base import open_base
from coldfusion_fl.model.encoder import load_encoder
from coldfusion_fl.publishing.push import plan_push, push
from coldfusion_fl.publishing.repository import Repository, check_id, find_replaced
from coldfusion_fl.publishing.source import RunSource, open_source
from coldfusion_fl.repository.checkpoint_round import fuse_into_run

NAME = "acme/shared"
MODEL = {
    "README.md", "config.json", "model.safetensors", "modules.json", "1_Pooling/config.json", "tokenizer.json",
    "tokenizer_config.json", "vocab.txt", "special_tokens_map.json",
}  # fmt: skip


def send(folder, rounds="", name=NAME, token="", **options):
    source, repository = open_source(folder, rounds), Repository(name, token)
    plan = plan_push(source, repository, **options)
    options.pop("replace", None)
    push(source, repository, plan, report=lambda line: None, **options)
    return plan


def test_a_run_comes_back_as_it_was(hub, run):
    send(run.folder, "all", private=True)
    assert hub.private == {NAME}
    assert hub.tags[NAME] == ["round-1", "round-2"]
    assert [commit[1] for commit in hub.commits] == ["main", "rounds", "rounds"]
    assert set(hub.commits[0][3]) == MODEL
    for reference, number in ((f"{NAME}@round-1", 1), (f"{NAME}@round-2", 2), (NAME, 2)):
        base = open_base(reference)
        assert encoder_hash(load_encoder(base)) == run.record(number).base_sha256
        assert (base.pooling, len(base.commit)) == ("mean", 40)
    assert open_base(f"{NAME}@{open_base(NAME).commit}").folder == open_base(NAME).folder


def test_the_cards_are_those_of_their_rounds_and_name_the_repository(hub, run, tmp_path):
    send(run.folder, "all")
    result, first = (
        (hub.revisions[NAME, name] / "README.md").read_text(encoding="utf-8") for name in ("main", "round-1")
    )
    assert "This is the base that round 1 ended with." in first
    assert "was not evaluated" in first
    assert f'AutoModel.from_pretrained("{NAME}")' in result
    assert ModelCard(result).data.model_name == "shared"
    for card in (result, first):
        assert str(tmp_path) not in card
        assert "a local folder" in card


def test_only_the_model_is_sent(hub, run):
    for name in ("rows.csv", "fusion.json", "optimizer.pt", ".env", "1_Pooling/notes.txt"):
        (run.folder / "model" / name).write_text("private")
    send(run.folder, "all")
    sent = {path for *_, paths in hub.commits for path in paths}
    assert sent == MODEL
    assert not any(b"private" in content for content in hub.stored.values())


def test_a_second_call_sends_nothing_twice(hub, run):
    send(run.folder, "1")
    plan = send(run.folder, "all")
    assert (plan.there, plan.rounds, plan.changed) == ((1,), (2,), ())
    assert [commit[2] for commit in hub.commits] == [
        "A ColD Fusion base",
        "The base of round 1",
        "The base of round 2",
    ]
    before = len(hub.requests)
    send(run.folder, "all")
    assert len(hub.commits) == 3
    assert not any(request.startswith("PUT") for request in hub.requests[before:])


@pytest.mark.parametrize("failing", ["/commit/main", "/commit/rounds", "/tag/"])
def test_an_interrupted_upload_goes_on(hub, run, failing):
    hub.failing = failing
    with pytest.raises(HubError, match="HTTP status 500.*same command again") as error:
        send(run.folder, "all")
    assert (error.value.code, error.value.exit_code) == (ErrorCode.HUB_UPLOAD, 1)
    uploads = [request for request in hub.requests if request.startswith("PUT")]
    hub.failing = ""
    send(run.folder, "all")
    assert hub.tags[NAME] == ["round-1", "round-2"]
    assert [commit[1] for commit in hub.commits] == ["main", "rounds", "rounds"]
    assert len({request for request in hub.requests if request.startswith("PUT")}) == 2  # the last round is the result
    assert len([request for request in hub.requests if request.startswith("PUT")]) == 2
    assert uploads


def test_another_model_is_replaced_only_if_it_is_said(hub, run, tiny_base, tmp_path):
    other = make_finished_run(tmp_path / "other", tiny_base, seed=1)
    (other.folder / "model" / "NOTICE").write_text("of the other model")
    send(other.folder)
    with pytest.raises(SettingsError, match=r"holds another model.*--replace") as error:
        send(run.folder)
    assert error.value.code == ErrorCode.HUB_CONFLICT
    assert len(hub.commits) == 1
    plan = send(run.folder, replace=True)
    assert plan.removed == ("NOTICE",)
    assert plan.changed == ("README.md", "model.safetensors")
    assert encoder_hash(load_encoder(open_base(NAME))) == run.record(2).base_sha256
    assert not (hub.models[NAME] / "NOTICE").exists()


def test_a_model_that_names_the_run_as_its_base_is_another_one(hub, run, tiny_base, tmp_path):
    other = make_finished_run(tmp_path / "other", tiny_base, seed=1)
    card = other.folder / "model" / "README.md"
    card.write_text(card.read_text() + f"\nfrom shared (SHA-256 of its arrays: {run.record(2).base_sha256})\n")
    send(other.folder)
    with pytest.raises(SettingsError, match="holds another model"):
        send(run.folder)


def test_files_that_are_no_part_of_a_model_stay(hub, run, tiny_base, tmp_path):
    other = make_finished_run(tmp_path / "other", tiny_base, seed=1)
    send(other.folder)
    state = Repository(NAME).read()
    beside = dict.fromkeys(("eval.py", "images/plot.png", "data/rows.csv", "results.json"), "0" * 40)
    of_the_other = dict.fromkeys(("vocab.json", "2_Dense/config.json", "pytorch_model.bin", "LICENSE"), "0" * 40)
    state = replace(state, files={**state.files, **beside, **of_the_other})
    with open_source(run.folder).model(NAME) as model:
        assert find_replaced(NAME, state, model, replace=True) == sorted(of_the_other)


def test_a_tag_of_another_run_is_not_moved(hub, run, tiny_base, tmp_path):
    send(make_finished_run(tmp_path / "other", tiny_base, seed=1).folder, "1")
    with pytest.raises(SettingsError, match="has a tag round-1 already, of other weights") as error:
        send(run.folder, "all", replace=True)
    assert error.value.code == ErrorCode.HUB_CONFLICT
    assert len(hub.commits) == 2


def test_a_private_model_does_not_go_to_a_public_repository(hub, run):
    send(run.folder)
    with pytest.raises(SettingsError, match="exists and is public"):
        send(run.folder, private=True)


@pytest.mark.parametrize(
    ("token", "name", "fact"),
    [
        ("", NAME, "there is no token"),
        (INVALID_TOKEN, NAME, "rejects the token"),
        (READER, NAME, "may not write there"),
        ("hf_writer", "strangers/shared", "may not write there"),
    ],
)
def test_a_token_that_may_not_write(hub, run, monkeypatch, tmp_path, token, name, fact):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(SettingsError, match=fact) as error:
        send(run.folder, token=token, name=name)
    assert error.value.code == ErrorCode.HUB_ACCESS
    assert not hub.models
    assert not token or token not in str(error.value)


def test_a_hub_that_is_down(hub, run, monkeypatch):
    monkeypatch.setattr("coldfusion_fl.hub.time.sleep", lambda seconds: None)
    hub.broken = True
    with pytest.raises(HubError, match="cannot be reached.*dry-run") as error:
        send(run.folder)
    assert error.value.code == ErrorCode.HUB_UNREACHABLE


def test_a_run_that_is_not_finished_needs_a_round(hub, tiny_base, tmp_path):
    ledger = make_finished_run(tmp_path / "running", tiny_base, finish=False)
    with pytest.raises(RunFolderError, match=r"not finished \(running, 2 rounds\).*--rounds 2"):
        open_source(ledger.folder)
    send(ledger.folder, "1")
    assert encoder_hash(load_encoder(open_base(NAME))) == ledger.record(1).base_sha256
    assert "round 1 ended with" in (hub.models[NAME] / "README.md").read_text()
    plan = send(ledger.folder, "2")  # a later base of the same run
    assert plan.changed == ("README.md", "model.safetensors")
    assert encoder_hash(load_encoder(open_base(NAME))) == ledger.record(2).base_sha256
    assert hub.tags[NAME] == ["round-1", "round-2"]


def test_rounds_without_arrays_are_left_out(run):
    run.keep_last(1)
    source = open_source(run.folder, "all")
    assert (source.rounds, source.notes) == (
        (2,),
        ("Rounds 1 are not sent: their arrays were removed (keep-last).",),
    )
    with pytest.raises(RunFolderError, match="round 1 were removed"):
        open_source(run.folder, "1,2")


@pytest.mark.parametrize(
    ("rounds", "fact"), [("3", "no round 3; it has 1 to 2"), ("0", "Round 0 is its first base"), ("x", "must be all")]
)
def test_rounds_that_are_not_there(run, rounds, fact):
    with pytest.raises(SettingsError, match=fact):
        open_source(run.folder, rounds)


def test_a_damaged_round_is_not_sent(run):
    file = run.round_folder(1) / "base.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(RunFolderError, match="damaged"):
        open_source(run.folder, "all")


def test_a_card_of_an_older_version_is_written_anew(hub, run):
    card = run.folder / "model" / "README.md"
    card.write_text(card.read_text() + "\nfrom /home/ada/base\n")
    send(run.folder)
    assert "/home" not in (hub.models[NAME] / "README.md").read_text()


@pytest.fixture
def run_of_checkpoints(checkpoint, tiny_base, tmp_path):
    """A run of two rounds with a checkpoint each; the second one has a licence of its own."""
    free, other = checkpoint("free", seed=1), checkpoint("other", seed=2)
    (tmp_path / "other" / "README.md").write_text("---\nlicense: gpl-3.0\n---\n")
    fuse_into_run(tmp_path / "hand", [free], base=str(tiny_base))
    return fuse_into_run(tmp_path / "hand", [other]).ledger


def test_cards_of_rounds_have_the_checkpoints_and_licences_up_to_their_round(hub, run_of_checkpoints, tmp_path):
    send(run_of_checkpoints.folder, "all")
    cards = {name: (hub.revisions[NAME, name] / "README.md").read_text() for name in ("main", "round-1", "round-2")}
    assert all("| 1 | `free` |" in card for card in cards.values())
    assert {name for name, card in cards.items() if "| 2 | `other` |" in card} == {"main", "round-2"}
    assert {name for name, card in cards.items() if "terms count too: other: gpl-3.0." in card} == {"main", "round-2"}
    assert not any(str(tmp_path) in card for card in cards.values())


def test_a_card_that_is_written_anew_has_the_checkpoints(hub, run_of_checkpoints):
    card = run_of_checkpoints.folder / "model" / "README.md"
    written = card.read_text()
    card.write_text(written + "\nfrom /home/ada/base\n")
    with open_source(run_of_checkpoints.folder).model(NAME) as anew:
        card.write_text(written)
        with open_source(run_of_checkpoints.folder).model(NAME) as saved:
            assert anew.card == saved.card


def test_a_model_folder(hub, run, tmp_path):
    folder = shutil.copytree(run.folder / "model", tmp_path / "mine")
    send(folder)
    assert set(hub.commits[0][3]) == MODEL
    with pytest.raises(SettingsError, match="no rounds"):
        open_source(folder, "all")


@pytest.mark.parametrize("name", ["shared", "a/b/c", "a b/c", "", "acme/x--y"])
def test_a_name_that_is_no_id(name):
    with pytest.raises(SettingsError, match="is not the id of a repository"):
        check_id(name)


def test_nothing_is_sent_if_the_card_of_a_later_round_may_not_be_published(hub, run, monkeypatch):
    card = RunSource.card
    path = "\nfrom /home/ada/base\n"
    monkeypatch.setattr(RunSource, "card", lambda self, number: card(self, number) + (path if number == 2 else ""))
    with pytest.raises(ModelError) as error:
        send(run.folder, "all")
    assert error.value.code == ErrorCode.PATHS_PUBLISHED
    assert not hub.commits
