"""Flower's SuperLink in this process, with a run and two members."""

import pytest
from superlink_app import running_app


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    with running_app(tmp_path_factory.mktemp("superlink")) as made:
        yield made


@pytest.fixture
def link(app):
    """The app with a new run, and nothing in it."""
    app.begin()
    return app
