"""The space of the server's database goes back to the disk."""

import sqlite3
import threading

import pytest
from flwr.app import ConfigRecord
from superlink_app import SuperLinkApp, content

from coldfusion_fl.engines.deployment.superlink import database
from coldfusion_fl.engines.deployment.superlink.database import database_size, delete_finished, give_back, prepare

MEGABYTE = 10**6


def fill(file, megabytes):
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE IF NOT EXISTS things (content BLOB)")
        connection.executemany("INSERT INTO things VALUES (zeroblob(?))", [(MEGABYTE,)] * megabytes)
        connection.commit()
        connection.execute("DELETE FROM things")
    connection.close()


def test_an_old_database_is_made_small_before_flower_opens_it(tmp_path):
    file = tmp_path / "state.db"
    fill(file, 20)
    assert database_size(file) > 20 * MEGABYTE
    prepare(file)
    assert database_size(file) < MEGABYTE


def test_free_space_is_given_back_while_others_use_the_database(tmp_path, monkeypatch):
    pauses = []
    monkeypatch.setattr(database.time, "sleep", pauses.append)
    file = tmp_path / "state.db"
    prepare(file)
    fill(file, 40)
    done = threading.Event()
    problems = []

    def write():
        other = sqlite3.connect(file, timeout=5)
        try:
            while not done.is_set():
                with other:
                    other.execute("INSERT INTO things VALUES ('small')")
                done.wait(0.02)
        except sqlite3.Error as error:
            problems.append(error)
        other.close()

    writer = threading.Thread(target=write)
    writer.start()
    connection = sqlite3.connect(file, timeout=5, isolation_level=None)
    give_back(connection)
    done.set()
    writer.join()
    give_back(connection)
    connection.close()
    assert not problems
    assert 10 <= len(pauses) < 20  # of 10,000 pages, a thousand at once
    assert database_size(file) < 2 * MEGABYTE


def test_a_file_that_is_mostly_used_is_left_as_it_is(tmp_path):
    file = tmp_path / "state.db"
    prepare(file)
    fill(file, 20)
    connection = sqlite3.connect(file, isolation_level=None)
    assert database.has_much_free_space(connection)
    connection.execute("INSERT INTO things VALUES (zeroblob(?))", [18 * MEGABYTE])
    assert not database.has_much_free_space(connection)
    connection.close()


def test_a_damaged_database_is_left_to_flower(tmp_path, caplog):
    file = tmp_path / "state.db"
    file.write_bytes(b"this is no database" * 1000)
    prepare(file)
    assert "Cannot give back the free space" in caplog.text


def test_there_may_be_no_database(tmp_path):
    assert database_size(tmp_path / "state.db") == 0


@pytest.fixture
def link(tmp_path, monkeypatch):
    prepare(tmp_path / "state.db")
    made = SuperLinkApp(tmp_path, monkeypatch)
    with made.client:
        made.begin()
        yield made


def test_what_a_finished_run_leaves_is_deleted(link, tmp_path):
    """Messages that nobody fetched."""
    link.send("a", content(config=ConfigRecord({"text": "x" * MEGABYTE})))
    delete_finished(link.state)
    assert link.stored() > MEGABYTE
    [run] = link.state.get_run_info(run_ids=[link.run])
    assert link.state.finish_task(run.primary_task_id, "completed", "")
    delete_finished(link.state)
    assert (link.stored(), link.state.num_message_ins()) == (0, 0)
    connection = sqlite3.connect(tmp_path / "state.db", timeout=5, isolation_level=None)
    give_back(connection)
    connection.close()
    assert database_size(tmp_path / "state.db") < MEGABYTE
