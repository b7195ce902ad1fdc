"""`coldfusion push`: what it prints, and how the run comes back with `base = "REPO@round-1"`."""

import subprocess

import pytest
from commands import COLDFUSION
from scored_runs import make_finished_run
from web.fake_hub import FakeHub
from web.fake_hub_writes import WRITER


@pytest.fixture
def run(tmp_path, tiny_base):
    return make_finished_run(tmp_path / "first", tiny_base)


def test_a_dry_run_works_offline_and_sends_nothing(coldfusion, run):
    before = sorted(run.folder.rglob("*"))
    (run.folder / "model" / "rows.csv").write_text("text,label")
    code, out, err = coldfusion("push", run.folder, "acme/shared", "--rounds", "all", "--dry-run")
    assert code == 0, err
    text = " ".join(out.split())
    assert "To acme/shared: the result of the run" in text
    assert "model.safetensors" in text
    assert "Not sent, because they are no part of the model: rows.csv" in text
    assert "tag round-1: 9 files" in text
    assert "tag round-2: 9 files" in text
    assert "The card names no licence." in text
    assert "# A ColD Fusion base" in text
    assert "Nothing was sent" in text
    assert sorted(run.folder.rglob("*")) == sorted([*before, run.folder / "model" / "rows.csv"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("first", "shared"), "Write OWNER/NAME, such as acme/shared"),
        (("nowhere", "acme/shared"), "nowhere: this folder does not exist"),
        (("first", "acme/shared", "--rounds", "7"), "the run has no round 7"),
        (("first/model", "acme/shared", "--rounds", "all"), "is not a run folder"),
        (("empty", "acme/shared"), "there is no config.json"),
    ],
)
def test_a_mistake(coldfusion, run, tmp_path, words, message):
    (tmp_path / "empty").mkdir()
    code, _, err = coldfusion("push", *words)
    assert code == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_without_a_connection_it_says_so(coldfusion, run):
    code, _, err = coldfusion("push", run.folder, "acme/shared")
    assert code == 1
    assert "HF_HUB_OFFLINE is set" in err
    assert "`--dry-run` needs no connection" in err


@pytest.mark.slow
def test_there_and_back(run, toy_data, tmp_path):
    with FakeHub(tmp_path / "hub") as hub:

        def call(*words):
            environment = hub.environment(tmp_path / "home", HF_TOKEN=WRITER, OMP_NUM_THREADS="1")
            done = subprocess.run(
                [*COLDFUSION, *map(str, words)], capture_output=True, text=True, timeout=300, check=False,
                env=environment, cwd=tmp_path,
            )  # fmt: skip
            assert done.returncode == 0, done.stdout + done.stderr
            assert "Traceback" not in done.stderr
            return " ".join(done.stdout.split())

        out = call("push", run.folder, "acme/shared", "--rounds", "all", "--private", "--message", "First")
        assert "acme/shared (a new repository):" in out
        assert f"Sent to {hub.endpoint}/acme/shared" in out
        assert 'base = "acme/shared@round-2"' in out
        assert hub.commits[0][2] == "First"
        catalogue = ("--catalogue", toy_data / "toy.toml")
        call("evaluate", "acme/shared@round-1", "--tasks", "a", *catalogue)
        compared = call("compare", "acme/shared@round-1", "acme/shared", "--tasks", "a", *catalogue)
        assert "acme/shared@round-1" in compared
        call("fuse", "acme/shared@round-2", "--base", "acme/shared@round-1", "--out", "fused")
        card = (tmp_path / "fused" / "README.md").read_text()
        assert "`acme/shared` of the Hub, commit" in card
        assert "base_model: acme/shared" in card
        assert "There already: round-1, round-2" in call("push", run.folder, "acme/shared", "--rounds", "all")
    assert not hub.unknown
