"""Ray on this machine, with a process of the test's own in place of the one that starts it."""

import sys

import pytest

from coldfusion_fl.engines.local_ray import LocalRay, start_ray
from coldfusion_fl.errors import ErrorCode, RunError


@pytest.fixture
def start(monkeypatch, tmp_path):
    """Starts Ray; its process prints this."""

    def start(text, early_workers=True):
        program = tmp_path / "python"
        program.write_text(f'#!/bin/sh\nprintf %s "{text}"\n')
        program.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(program))
        return LocalRay(early_workers)

    return start


def test_the_address_is_what_the_process_prints(start):
    assert start('{\\"address\\": \\"127.0.0.1:1\\"}').address() == "127.0.0.1:1"


@pytest.mark.parametrize(
    ("text", "reason"), [('{\\"error\\": \\"no space\\"}', "no space"), ("", "its process ended with code 0")]
)
def test_the_reason_why_it_did_not_start_is_an_error(start, text, reason):
    with pytest.raises(RunError, match=f"cannot start Ray on this machine: {reason}") as error:
        start(text).address()
    assert error.value.code == ErrorCode.WORKERS_FAILED


def test_the_process_that_starts_ray_says_why_it_did_not(monkeypatch, tmp_path):
    (tmp_path / "ray.py").write_text("def init(**_):\n    raise OSError('no space')\n\ndef shutdown():\n    pass\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(RunError, match="cannot start Ray on this machine: no space"):
        LocalRay(early_workers=False).address()


def test_the_log_says_why_ray_is_started_again(monkeypatch, capsys):
    errors: list[Exception | None] = [TimeoutError("too slow"), None]

    def init(**_):
        if error := errors.pop(0):
            raise error

    class Context:
        gcs_address = "127.0.0.1:1"

    monkeypatch.setattr("ray.init", init)
    monkeypatch.setattr("ray.shutdown", lambda: None)
    monkeypatch.setattr("ray.get_runtime_context", Context)
    assert start_ray() == "127.0.0.1:1"
    assert not errors
    assert capsys.readouterr().err == "WARNING : Ray did not start (too slow). It is started again.\n"
