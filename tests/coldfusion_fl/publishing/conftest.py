"""A Hub on loopback that can be written, and the library in this process as its client."""

import huggingface_hub
import pytest
from scored_runs import make_finished_run
from web.fake_hub import FakeHub
from web.fake_hub_writes import WRITER

from coldfusion_fl import hub as our_hub


@pytest.fixture
def hub(tmp_path, monkeypatch):
    constants = huggingface_hub.constants
    with FakeHub(tmp_path / "hub") as server:
        values = {"HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True, "ENDPOINT": server.endpoint}
        values["HUGGINGFACE_CO_URL_TEMPLATE"] = server.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        for name, value in {**values, "HF_HUB_CACHE": str(tmp_path / "cache")}.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setattr(our_hub, "_last_failure", None)
        monkeypatch.setattr(our_hub, "_has_answered", False)
        monkeypatch.setenv("HF_TOKEN", WRITER)
        yield server
    assert not server.unknown


@pytest.fixture
def run(tmp_path, tiny_base):
    """A finished run of two rounds."""
    return make_finished_run(tmp_path / "run", tiny_base)
