"""The settings that `coldfusion run` makes of a file."""

import pytest

from coldfusion_fl.cli.run import run_settings
from coldfusion_fl.config.tables import to_table
from coldfusion_fl.errors import RunFolderError
from coldfusion_fl.runs.ledger import Ledger


def freeze_in_federation(config, folder):
    return run_settings(config, folder, None, None, is_federated=True).finetune.freeze


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


@pytest.mark.parametrize("preset", [{}, {"preset": '"recommended"'}, {"preset": '"paper"'}])
@pytest.mark.parametrize("began_with", ["nothing", "embeddings", None])
def test_a_run_that_resumes_freezes_what_it_began_with(toy_run, tmp_path, capsys, began_with, preset):
    config = toy_run(**preset)
    settings = to_table(run_settings(config, tmp_path / "run", None, None))
    settings["finetune"]["freeze"] = began_with
    if began_with is None:  # a run from before the setting
        del settings["finetune"]["freeze"]
    Ledger.create(tmp_path / "run", settings, str(tmp_path / "acme"))
    capsys.readouterr()
    for is_federated in (True, False):
        for file in (config, None):
            resumed = run_settings(file, None, tmp_path / "run", None, is_federated=is_federated)
            assert resumed.finetune.freeze == (began_with or "nothing")
            Ledger.reopen(tmp_path / "run", to_table(resumed))
    assert not capsys.readouterr().out


def test_a_file_that_changes_what_a_run_freezes_is_rejected(toy_run, tmp_path):
    settings = to_table(run_settings(toy_run(), tmp_path / "run", None, None))
    Ledger.create(tmp_path / "run", settings)
    changed = run_settings(toy_run(**{"finetune.freeze": '"embeddings"'}), None, tmp_path / "run", None)
    with pytest.raises(RunFolderError, match="finetune.freeze"):
        Ledger.reopen(tmp_path / "run", to_table(changed))
