"""The events of a run, on disk."""

import json
import resource

import pytest

from coldfusion_fl.errors import ErrorCode, RunFolderError
from coldfusion_fl.runs.events import ContributorExcluded, RoundFused, RunStarted
from coldfusion_fl.runs.progress import ProgressLog, format_event
from coldfusion_fl.runs.records import PrivacySpent


def test_events_of_two_writers_do_not_mix(tmp_path):
    file = tmp_path / "progress.jsonl"
    log, other = ProgressLog(file), ProgressLog(file)
    for number in range(50):
        (log if number % 2 else other).append(ContributorExcluded(name=str(number), reason="x" * 500))
    event = format_event(RunStarted(time=1.0))
    with file.open("ab") as written:
        written.write(event[:10])
    events, position = log.read()
    assert [event.name for event in events] == [str(number) for number in range(50)]
    assert log.read(position) == ([], position)
    with file.open("ab") as written:
        written.write(event[10:])
    assert log.read(position)[0] == [RunStarted(time=1.0)]


def lines_of_a_newer_release(known):
    """Unknown kinds before and after a known one, and unknown keys in it and in its nested table."""
    table = json.loads(format_event(known))
    table |= {"wall-clock": 1.0, "notes": ["x"], "privacy": {**table["privacy"], "accountant": "rdp"}}
    strange = {"time": 5, "kind": "base-shipped", "round": 1}
    return "".join(json.dumps(line) + "\n" for line in (strange, table, strange))


def test_kinds_and_keys_of_a_newer_release_are_ignored(tmp_path):
    spent = PrivacySpent(epsilon=1.0, delta=1e-5, rounds=1)
    known = RoundFused(round=1, contributions=2, rejected=0, privacy=spent)
    file = tmp_path / "progress.jsonl"
    file.write_text(lines_of_a_newer_release(known))
    assert ProgressLog(file).read() == ([known], file.stat().st_size)


def test_a_format_of_a_higher_version_is_rejected(tmp_path):
    file = tmp_path / "progress.jsonl"
    file.write_text('{"time": 1.0, "kind": "run-started", "format": 2}\n')
    with pytest.raises(RunFolderError) as error:
        ProgressLog(file).read()
    assert "version 2" in str(error.value)


def test_a_file_that_is_older_than_the_version_of_the_format_can_be_read(tmp_path):
    file = tmp_path / "progress.jsonl"
    file.write_text('{"time": 1.0, "kind": "run-started"}\n')
    assert ProgressLog(file).read()[0] == [RunStarted(time=1.0, format=1)]


@pytest.mark.parametrize("line", [b'{"kind": "unknown"}', b'{"kind": "round-started"}', b"[]", b"{", b"\0\0", b"\xff"])
def test_a_line_that_is_no_event_is_skipped_and_shown(tmp_path, line):
    before, after = RunStarted(time=1.0), RunStarted(time=2.0)
    file = tmp_path / "progress.jsonl"
    file.write_bytes(format_event(before) + line + b"\n" + format_event(after) + b"\n" + line + b"\n")
    said = []
    assert ProgressLog(file).read(0, said.append) == ([before, after], file.stat().st_size)
    assert len(said) == 1 and "line 2: " in said[0] and "and 1 other line" in said[0]


def test_a_line_that_a_killed_writer_did_not_finish_is_cut_before_the_next_event(tmp_path):
    log = ProgressLog(tmp_path / "progress.jsonl")
    for torn in (b'{"kind": "run-st', b"\0" * 5000):
        with (tmp_path / "progress.jsonl").open("ab") as file:
            file.write(torn)
        assert log.has_unfinished_line()
        log.append(RunStarted(time=1.0))
        assert not log.has_unfinished_line()
    assert log.read()[0] == [RunStarted(time=1.0)] * 2


def test_an_event_for_which_there_is_no_space_leaves_nothing_of_itself(tmp_path):
    log = ProgressLog(tmp_path / "progress.jsonl")
    log.append(RunStarted(time=1.0))
    size = (tmp_path / "progress.jsonl").stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, limits[1]))  # the kernel takes twenty bytes of the line
    try:
        with pytest.raises(RunFolderError):
            log.append(RunStarted(time=2.0))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "progress.jsonl").stat().st_size == size
    log.append(RunStarted(time=3.0))
    assert [event.time for event in log.read()[0]] == [1.0, 3.0]


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "progress.jsonl").mkdir()
    with pytest.raises(RunFolderError, match="progress.jsonl") as error:
        ProgressLog(tmp_path / "progress.jsonl").read()
    assert error.value.code == ErrorCode.RUN_FOLDER_DAMAGED
