"""Keeps the server's database small: what finished runs leave is deleted, and free space goes back to the disk.

Flower deletes a message when its receiver has it, and a run's messages when a member asks for something of that run
after its end. What nobody asks for stays, and SQLite keeps the space of deleted rows in its file.
"""

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator
from logging import WARNING
from pathlib import Path
from typing import Any

from flwr.common import log

_INTERVAL = 30.0
_INCREMENTAL = 2
# Flower's requests wait 5 s for the database. So it is locked for a small part of the space at a time.
_PAGES_AT_ONCE = 1000
_PAUSE = 0.05
# During a run, the space of a round is used again by the next one. A file that is mostly used is left as it is.
_FREE_PART = 4
# A transaction of Flower takes seconds on a busy machine. To wait for it costs nothing, because nothing is locked
# meanwhile.
_WAIT = 30.0
_CHECKPOINT_WAIT = 1000  # milliseconds
_FINISHED = "finished"
_RUNS = """
SELECT run_id FROM run_objects UNION SELECT run_id FROM message_ins UNION SELECT run_id FROM message_res
UNION SELECT run_id FROM object_push_sessions
"""


def prepare(database: Path) -> None:
    """Prepare the database for Flower, before it is opened: free space can then be given back while it is in use.

    A problem is logged and is no error; if the disk is full, say, Flower reports it.
    """
    try:
        with _open(database) as connection:
            if connection.execute("PRAGMA auto_vacuum").fetchone()[0] != _INCREMENTAL:
                connection.execute(f"PRAGMA auto_vacuum = {_INCREMENTAL}")
                connection.execute("VACUUM")  # without it, the setting has no effect
            give_back(connection)
    except sqlite3.Error as error:
        log(WARNING, "Cannot give back the free space of %s: %s", database, error)


def keep_small(database: Path, state: Any) -> None:
    """Look after the database in a thread, as long as this process lives.

    Args:
        database: the file.
        state: Flower's state of the server, which uses it.
    """

    def look_after() -> None:
        while True:
            time.sleep(_INTERVAL)
            try:
                delete_finished(state)
                with _open(database) as connection:
                    if has_much_free_space(connection):
                        give_back(connection)
            except Exception as error:  # it is tried again
                log(WARNING, "Cannot clean up %s: %s", database, error)

    threading.Thread(target=look_after, name="database", daemon=True).start()


def delete_finished(state: Any) -> None:
    """Delete the messages of runs that have ended.

    Args:
        state: Flower's state of the server.
    """
    runs = {row["run_id"] % 2**64 for row in state.query(_RUNS)}
    for run_id, status in state.get_run_status(runs).items() if runs else ():
        if status.status == _FINISHED:
            state.cleanup_run(run_id)


def has_much_free_space(connection: sqlite3.Connection) -> bool:
    """Whether a quarter of the file, and some megabytes, are free."""
    free, pages = _pragma(connection, "freelist_count"), _pragma(connection, "page_count")
    return free >= max(_PAGES_AT_ONCE, pages // _FREE_PART)


def give_back(connection: sqlite3.Connection) -> None:
    """Give all free space back to the disk, in steps that leave the database to others in between."""
    while _pragma(connection, "freelist_count"):
        # Without IMMEDIATE, the step would fail at once if another connection wrote after it began to read. It is a
        # script, because `execute` runs this pragma for a single page.
        connection.executescript(f"BEGIN IMMEDIATE; PRAGMA incremental_vacuum({_PAGES_AT_ONCE}); COMMIT")
        time.sleep(_PAUSE)
    # The file itself becomes shorter when SQLite's write-ahead log is written into it. While this waits for readers,
    # nobody can write, so that it must not wait long.
    connection.execute(f"PRAGMA busy_timeout = {_CHECKPOINT_WAIT}")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def database_size(database: Path) -> int:
    """The bytes that a database has on disk, with SQLite's write-ahead log; 0: there is none."""
    size = 0
    for file in (database, database.with_name(f"{database.name}-wal")):
        with contextlib.suppress(FileNotFoundError):
            size += file.stat().st_size
    return size


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


@contextlib.contextmanager
def _open(database: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(database, timeout=_WAIT, isolation_level=None)
    try:
        yield connection
    finally:
        connection.close()
