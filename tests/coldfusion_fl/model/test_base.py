"""Where a base comes from: a folder, whose name may have an @, before a model of the Hub."""

import shutil

import huggingface_hub
import pytest

from coldfusion_fl.errors import ErrorCode, ModelError
from coldfusion_fl.model.base import open_base, resolve_folder, snapshot_commit


@pytest.mark.parametrize("name", ["tiny@round-5", "@tiny", "tiny@"])
def test_a_folder_whose_name_has_an_at_sign(tiny_base, tmp_path, monkeypatch, name):
    shutil.copytree(tiny_base, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for reference in (name, f"./{name}", str(tmp_path / name)):
        assert resolve_folder(reference).resolve() == tmp_path / name
    assert open_base(name).commit == ""


@pytest.mark.parametrize(
    ("reference", "asked"),
    [
        ("acme/model", ("acme/model", None)),
        ("acme/model@round-5", ("acme/model", "round-5")),
        ("acme/model@refs/pr/1", ("acme/model", "refs/pr/1")),
        ("acme/model@a@b", ("acme/model", "a@b")),
    ],
)
def test_a_revision_of_the_hub(tmp_path, monkeypatch, reference, asked):
    calls = []

    def download(name, *, revision, **_):
        calls.append((name, revision))
        return str(tmp_path / "snapshots" / "c0ffee")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert snapshot_commit(resolve_folder(reference)) == "c0ffee"
    assert calls == [asked]


@pytest.mark.parametrize("reference", ["./a@b", "/a@b/c", "a/b/c@d", "acme/model@"])
def test_what_is_neither_a_folder_nor_a_revision(tmp_path, monkeypatch, reference):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", None)  # is not called
    with pytest.raises(ModelError) as error:
        resolve_folder(reference)
    assert error.value.code == ErrorCode.MODEL_MISSING
