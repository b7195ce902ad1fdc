"""The events of a run, on disk."""

import pytest

from coldfusion_fl.errors import ErrorCode, RunFolderError
from coldfusion_fl.run.events import ContributorExcluded, RunStarted, format_event
from coldfusion_fl.run.progress import ProgressLog


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


@pytest.mark.parametrize("line", ['{"kind": "unknown"}', '{"kind": "round-started"}', "[]", "{"])
def test_a_line_that_is_no_event_is_shown(tmp_path, line):
    (tmp_path / "progress.jsonl").write_text(line + "\n")
    with pytest.raises(RunFolderError) as error:
        ProgressLog(tmp_path / "progress.jsonl").read()
    assert error.value.code == ErrorCode.RUN_FOLDER_DAMAGED
    assert f"'{line}'" in str(error.value)
