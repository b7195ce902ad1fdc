"""The files that the commands on models write."""

import os

import pytest

from coldfusion_fl.cli.models.output_files import check_output_file, write_output_file
from coldfusion_fl.errors import RunFolderError


def test_a_file_is_replaced_whole_also_behind_a_link(tmp_path):
    (tmp_path / "real.json").write_text("old")
    (tmp_path / "link.json").symlink_to("real.json")
    check_output_file("--json", tmp_path / "link.json")
    write_output_file(tmp_path / "link.json", "new")
    assert (tmp_path / "real.json").read_text() == "new"
    assert (tmp_path / "link.json").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.json", "real.json"]


def test_a_pipe_stays_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    check_output_file("--json", tmp_path / "pipe")
    write_output_file(tmp_path / "pipe", "scores")
    assert os.read(reader, 100) == b"scores"
    os.close(reader)
    assert (tmp_path / "pipe").is_fifo()


def test_a_full_disk(small_disk):
    file = small_disk("64k") / "scores.json"
    file.write_text("old")
    with pytest.raises(RunFolderError) as error:
        write_output_file(file, "x" * 100_000)
    assert "The scores are printed above" in str(error.value)
    assert file.read_text() == "old"
