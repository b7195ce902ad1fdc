"""The command line, called in this process."""

import sys

import pytest

from coldfusion_fl.cli.main import main


@pytest.fixture
def coldfusion(monkeypatch, capsys, tmp_path):
    """Calls `coldfusion` with arguments; returns the exit code, the output and the error output."""
    monkeypatch.chdir(tmp_path)

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["coldfusion", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return ended.value.code or 0, captured.out, captured.err

    return call
