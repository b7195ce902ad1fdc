"""Flower's SuperLink in this process, with a run and two members."""

import pytest
from superlink_app import SuperLinkApp


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    """The app; to make its database takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        made = SuperLinkApp(tmp_path_factory.mktemp("superlink"), patch)
    with made.client:
        yield made


@pytest.fixture
def link(app):
    """The app with a new run, and nothing in it."""
    app.begin()
    return app
