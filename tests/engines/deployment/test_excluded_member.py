"""A member with another base than the run's, in real processes: what the run, its folder and the member say."""

import re

import pytest
from acme import Acme, fill_in, wait_for
from tiny_models import make_base

from coldfusion_fl.runs.ledger import Ledger

pytestmark = pytest.mark.slow
REASON = "the frozen weights of this node's base are not those of the run"
RUN = {"rounds": "1", "node-timeout": "10", "finetune.freeze": '"embeddings"', "evaluate.every": "-1"}


@pytest.fixture(scope="module")
def federation(tmp_path_factory, toy_data, tiny_base):
    made = Acme(tmp_path_factory.mktemp("federation"))
    made.init("abc", toy_data, tiny_base)
    fill_in(made.folder / "members" / "c", "c", toy_data, make_base(made.home / "other", initializer_range=0.5))
    made.serve()
    for name in "abc":
        made.join(name)
    wait_for(lambda: made.online() == set("abc"))
    yield made
    assert not made.end()


@pytest.fixture(scope="module")
def done(federation, toy_data, tiny_base):
    """The run folder, and what the command of the run printed."""
    folder = federation.home / "run"
    settings = federation.settings(toy_data, tiny_base, **RUN)
    ended = federation.coldfusion("run", settings, "--federation", federation.folder, "--out", folder)
    assert ended.returncode == 0, ended.stderr
    return folder, ended.stdout


def test_the_run_names_it_as_excluded_and_not_as_missing(done):
    folder, printed = done
    assert f'c is EXCLUDED from the next rounds: freeze = "embeddings": {REASON}' in printed
    assert "2 contributors connected; excluded: c\n" in printed
    assert "round 1/1: training on a, b; excluded: c" in printed
    assert "Excluded in 1 round: c, " in printed
    assert "not connected" not in printed
    record = Ledger(folder).record(1)
    assert REASON in record.excluded["c"]
    assert record.missing == []


def test_the_folder_has_the_reason_in_its_log_and_report(federation, done, toy_data):
    folder, _ = done
    for text in (
        federation.coldfusion("log", folder).stdout,
        federation.coldfusion("status", folder).stdout,
        (folder / "log.txt").read_text(),
        (folder / "report.json").read_text(),
        (folder / "report.html").read_text(),
    ):
        assert "frozen" in text and "weights of this node" in " ".join(text.split())
    log = (folder / "log.txt").read_text()
    assert "[ROUND 1/1]" in log
    assert not any(f"{path}/" in log for path in (federation.folder / "members", toy_data))


def test_the_members_terminal_and_log_begin_with_the_problem(federation, done):
    log = (federation.folder / "members" / "c" / "flower" / "messages.log").read_text()
    for text in (log, federation.said("c")):
        assert re.search(rf"(?m)^[-0-9]+ [:0-9]+ PROBLEM: .*{REASON}", text)


def test_members_that_are_online_were_heard_of(federation, done):
    shown = federation.coldfusion("status", done[0], "--federation", federation.folder).stdout
    rows = [line for line in shown.splitlines() if "online" in line]
    assert len(rows) == 3
    assert all(re.search(r"\d+ (s|min) ago", row) for row in rows)
