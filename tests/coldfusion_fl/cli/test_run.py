"""The settings that `coldfusion run` makes of a file."""

import pytest

from coldfusion_fl.cli.run import run_settings
from coldfusion_fl.config.tables import to_table
from coldfusion_fl.runs.ledger import Ledger


def freeze_in_federation(config, folder, resume=None):
    return run_settings(config, None if resume else folder, resume, None, is_federated=True).finetune.freeze


@pytest.mark.parametrize(
    ("changes", "freeze"),
    [
        ({}, "embeddings"),
        ({"preset": '"recommended"'}, "embeddings"),
        ({"preset": '"paper"'}, "nothing"),
        ({"finetune.freeze": '"nothing"'}, "nothing"),
        ({"preset": '"recommended"', "finetune.freeze": '"nothing"'}, "nothing"),
    ],
)
def test_a_federation_freezes_the_embeddings_unless_the_file_or_its_preset_says_otherwise(
    toy_run, tmp_path, capsys, changes, freeze
):
    assert freeze_in_federation(toy_run(**changes), tmp_path / "run") == freeze
    # It says so where it chose, and nowhere else.
    assert ("finetune.freeze" in capsys.readouterr().out) == (not changes)


def test_a_simulation_trains_all_weights_unless_its_file_or_preset_says_otherwise(toy_run, tmp_path):
    def freeze(**changes):
        return run_settings(toy_run(**changes), tmp_path / "run", None, None).finetune.freeze

    assert freeze() == "nothing"
    assert freeze(preset='"recommended"') == "embeddings"


@pytest.mark.parametrize("began_with", ["nothing", "embeddings", None])
def test_a_run_that_resumes_freezes_what_it_began_with(toy_run, tmp_path, capsys, began_with):
    config = toy_run()
    settings = to_table(run_settings(config, tmp_path / "run", None, None))
    settings["finetune"]["freeze"] = began_with
    if began_with is None:  # a run from before the setting
        del settings["finetune"]["freeze"]
    Ledger.create(tmp_path / "run", settings, str(tmp_path / "acme"))
    capsys.readouterr()
    assert freeze_in_federation(config, tmp_path, resume=tmp_path / "run") == (began_with or "nothing")
    assert freeze_in_federation(None, tmp_path, resume=tmp_path / "run") == (began_with or "nothing")
    assert not capsys.readouterr().out
