"""A signature says who wrote a run folder, and finds what was changed, removed or made again since."""

import shutil
import subprocess

import numpy as np
import pytest

from coldfusion_fl.errors import ErrorCode, RunFolderError, SettingsError
from coldfusion_fl.runs.integrity.signature import NAMESPACE, sign, verify_signature
from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.runs.lineage import verify_files
from coldfusion_fl.runs.records import RoundRecord

pytestmark = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed")


def save(ledger, number, frozen=50.0):
    ledger.save_round({"w": np.full(3, number, np.float32)}, RoundRecord(round=number))
    ledger.save_scores(number, {"a": {"frozen": frozen}})


def make_key(file, passphrase=""):
    words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", "somebody", "-f", str(file)]
    subprocess.run(words, check=True)
    return file


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """The keys of two persons."""
    folder = tmp_path_factory.mktemp("keys")
    return [make_key(folder / name) for name in ("own", "other")]


def public(key):
    return key.with_suffix(".pub")


@pytest.fixture
def folder(tmp_path):
    ledger = Ledger.create(tmp_path / "run", {"rounds": 3})
    for number in range(3):
        save(ledger, number)
    return ledger.folder


def test_a_signed_run_is_verified_with_the_public_key(folder, keys):
    signed = sign(folder, keys[0])
    assert signed.rounds == [0, 1, 2]
    assert verify_signature(folder, public(keys[0])) == signed
    verify_files(Ledger(folder))  # the signature itself is not a file of the run


def test_openssh_and_coreutils_verify_it_without_this_package(folder, keys, tmp_path):
    sign(folder, keys[0])
    allowed = tmp_path / "allowed"
    allowed.write_text(f"me@here {public(keys[0]).read_text()}")
    words = ["-Y", "verify", "-f", allowed, "-I", "me@here", "-n", NAMESPACE, "-s", "signed/SHA256SUMS.sig"]
    with (folder / "signed" / "SHA256SUMS").open("rb") as given:
        assert subprocess.run(["ssh-keygen", *words], cwd=folder, stdin=given, check=False).returncode == 0
    assert subprocess.run(["sha256sum", "--check", "signed/SHA256SUMS"], cwd=folder, check=False).returncode == 0


def test_another_person_did_not_sign_it(folder, keys):
    sign(folder, keys[1])
    with pytest.raises(RunFolderError, match="not a signature") as error:
        verify_signature(folder, public(keys[0]))
    assert error.value.code == ErrorCode.SIGNATURE_INVALID


def test_a_run_without_a_signature_is_not_signed(folder, keys):
    with pytest.raises(RunFolderError, match="it is not signed") as error:
        verify_signature(folder, public(keys[0]))
    assert error.value.code == ErrorCode.SIGNATURE_INVALID


def remove_the_last_round(folder):
    shutil.rmtree(folder / "rounds" / "002")


def make_the_last_round_again(folder):
    remove_the_last_round(folder)
    save(Ledger(folder), 2, frozen=99.0)


def add_a_round(folder):
    save(Ledger(folder), 3)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (remove_the_last_round, "002: this round is missing"),
        (make_the_last_round_again, "002/scores.json: this file was changed"),
        (add_a_round, "003/record.json: it is not signed"),
    ],
)
def test_a_consistent_folder_with_other_rounds_is_not_the_signed_one(folder, keys, change, named):
    sign(folder, keys[0])
    change(folder)
    # What makes the folder consistent can be made by anybody: the list is written from what is there.
    files = Ledger(folder).file_list
    files.drop(*files.read())
    files.put(*files.current())
    assert verify_files(Ledger(folder)).differences == []
    with pytest.raises(RunFolderError, match=named) as error:
        verify_signature(folder, public(keys[0]))
    assert error.value.code == ErrorCode.SIGNATURE_INVALID
    sign(folder, keys[0])
    verify_signature(folder, public(keys[0]))


def test_an_older_signature_passes_for_an_older_copy_alone(folder, keys, tmp_path):
    shutil.copytree(folder, tmp_path / "older")
    sign(tmp_path / "older", keys[0])
    add_a_round(folder)
    newest = sign(folder, keys[0])
    older = verify_signature(tmp_path / "older", public(keys[0]))
    assert (older.rounds, newest.rounds) == ([0, 1, 2], [0, 1, 2, 3])
    assert older.sha256 != newest.sha256


def test_a_key_that_cannot_sign_is_named_and_the_signature_stays(folder, keys, tmp_path, monkeypatch):
    signed = sign(folder, keys[0])
    monkeypatch.setenv("SSH_ASKPASS_REQUIRE", "force")  # no terminal is asked
    monkeypatch.setenv("SSH_ASKPASS", "/bin/false")
    locked = make_key(tmp_path / "locked", "a passphrase")
    (tmp_path / "text").write_text("no key")
    for key in (locked, tmp_path / "text", tmp_path / "missing"):
        with pytest.raises(SettingsError, match=key.name) as error:
            sign(folder, key)
        assert error.value.code == ErrorCode.KEY_INVALID
    assert verify_signature(folder, public(keys[0])) == signed


@pytest.mark.parametrize(
    "text", ["", "no key", "cert-authority ssh-ed25519 AAAA", "ssh-ed25519 AAAA\nssh-ed25519 BBBB"]
)
def test_a_file_that_is_no_public_key_is_named(folder, keys, tmp_path, text):
    sign(folder, keys[0])
    (tmp_path / "key.pub").write_text(text)
    with pytest.raises(SettingsError, match=r"key\.pub") as error:
        verify_signature(folder, tmp_path / "key.pub")
    assert error.value.code == ErrorCode.KEY_INVALID


def test_without_ssh_keygen_there_is_advice(folder, keys, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(SettingsError, match="OpenSSH"):
        sign(folder, keys[0])
