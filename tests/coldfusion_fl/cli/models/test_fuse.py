"""`coldfusion fuse`."""

import json

import pytest
from tiny_models import make_checkpoint


@pytest.fixture(scope="module")
def folders(tiny_base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    for labels in (2, 3, 5):
        make_checkpoint(folder / f"labels-{labels}", tiny_base, seed=labels, num_labels=labels)
    make_checkpoint(folder / "loud", tiny_base, seed=9, size=1.0)
    return folder


def test_fuse(coldfusion, folders, tiny_base, tmp_path):
    names = [folders / name for name in ("labels-2", "labels-3", "labels-5", "loud")]
    code, out, err = coldfusion(
        "fuse", *names, "--base", tiny_base, "--out", "fused", "--fusion", "ties(density=0.2)", "--screening", "size",
        "--server-optimizer", "learning-rate(learning-rate=0.3)",
    )  # fmt: skip
    assert code == 0, err
    text = " ".join(out.split())
    assert "Fused by ties(density=0.2, scale=1)" in text
    assert "(1 of 4)" in text
    assert "rejected by" in text
    assert "too large" in text
    assert " fused --tasks TASK" in text
    facts = json.loads((tmp_path / "fused" / "fusion.json").read_text())
    assert [one["rejected-by"] for one in facts["checkpoints"]] == ["", "", "", "size"]
    assert facts["server-optimizer"] == "learning-rate(learning-rate=0.3)"


def test_weights_and_a_warning(coldfusion, folders, tiny_base):
    words = (folders / "labels-2", tiny_base, "--base", tiny_base, "--out", "fused")
    code, out, err = coldfusion("fuse", *words, "--weights", "3,1")
    assert code == 0, err
    assert "0.750" in out
    assert "rejected by" not in out
    assert f"warning: {tiny_base}: its encoder is the base's, unchanged." in out


def test_greedy_soup_with_a_task(coldfusion, folders, tiny_base, toy_data, tmp_path):
    code, _, err = coldfusion(
        "fuse", folders / "labels-2", folders / "labels-3", "--base", tiny_base, "--out", "fused", "--screening",
        "greedy-soup(tolerance=100)", "--server-validation", "a", "--catalogue", toy_data / "toy.toml",
    )  # fmt: skip
    assert code == 0, err
    facts = json.loads((tmp_path / "fused" / "fusion.json").read_text())
    assert [one["share"] for one in facts["checkpoints"]] == [0.5, 0.5]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--fusion", "tise"), "fusion: unknown name 'tise'"),
        (("--screening", "greedy-soup"), "greedy-soup needs a score"),
        (("--weights", "1,b"), "--weights must be numbers"),
        (("--weights", "1,2"), "2 weights for 1 checkpoint"),
        (("--server-validation", "sst2"), "has no use without a rule that needs a score"),
        (("--out", "loud"), "loud exists already"),
        (("--base", "./nowhere"), "./nowhere: this folder does not exist"),
    ],
)
def test_a_mistake(coldfusion, folders, tiny_base, tmp_path, words, message):
    (tmp_path / "loud").mkdir()
    code, _, err = coldfusion("fuse", folders / "labels-2", "--base", tiny_base, "--out", "fused", *words)
    assert code == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["loud"]


def test_a_bad_checkpoint_is_named_and_nothing_is_written(coldfusion, folders, tiny_base, tmp_path):
    bad = make_checkpoint(tmp_path / "bad", tiny_base, seed=1)
    (bad / "model.safetensors").write_bytes(b"no weights")
    words = (folders / "labels-2", bad, "--base", tiny_base, "--out", "fused")
    code, _, err = coldfusion("fuse", *words)
    assert code == 2
    assert f"{bad}: model.safetensors cannot be read" in err
    assert [path.name for path in tmp_path.iterdir()] == ["bad"]
