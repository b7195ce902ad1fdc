"""The page about run folders lists each file of a whole run."""

import pytest
from documented_files import documented_files, undocumented

pytestmark = pytest.mark.xdist_group("ray")


def test_each_file_of_a_run_is_listed(finished):
    ledger, _ = finished
    assert not undocumented(ledger.folder)


def test_each_listed_file_is_written(finished):
    ledger, _ = finished
    listed, _ = documented_files()
    of_other_runs = {"last-base/", "tracking/", "tasks/", "undone/NNN/", "signed/"}
    assert {name for name in listed if not (ledger.folder / name.replace("NNN", "001")).exists()} == of_other_runs
