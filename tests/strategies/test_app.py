"""The ServerApp that `flwr run` loads."""

import sys
from types import SimpleNamespace

import pytest

from coldfusion_fl.errors import ErrorCode, SettingsError
from coldfusion_fl.strategies import app, server_app


def test_it_executes_the_run_of_the_context(monkeypatch):
    given = []
    monkeypatch.setattr(server_app, "main", lambda *arguments: given.append(arguments))
    context = SimpleNamespace()
    app.main("the grid", context)
    assert given == [("the grid", context)]


def test_a_missing_extra_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(SettingsError, match=r"^the ServerApp needs pandas.*'coldfusion-fl\[models\]'$") as error:
        app.main("the grid", SimpleNamespace())
    assert error.value.code == ErrorCode.EXTRA_MISSING
