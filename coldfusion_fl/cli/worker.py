"""The other end of `launch`: a process that checks a run's settings, and runs it when it is told of its folder.

It is started as `python -m MODULE PARENT PIPE ...`, told the settings and then a run folder on its standard input, and
says on the pipe what is wrong with them. What it prints goes to the folder's log.
"""

import contextlib
import json
import logging
import os
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from coldfusion_fl.config.parsing import parse_settings
from coldfusion_fl.config.settings import Settings
from coldfusion_fl.errors import ColdFusionError
from coldfusion_fl.process_tree import exit_with_parent
from coldfusion_fl.run.ledger import Ledger

_log = logging.getLogger("flwr")


def run_worker(
    what: str,
    check: Callable[[Settings, str], None],
    prepare: Callable[[dict[str, Any]], ColdFusionError | None],
    run: Callable[[Settings, Ledger], None],
) -> None:
    """Do what the process that started this one says.

    Args:
        what: what runs, for messages.
        check: finds what is wrong with settings that stand in the source that it is told of.
        prepare: gets ready meanwhile for settings as nested tables; why it cannot, which counts once there is a run.
        run: runs it.
    """
    parent, answer = map(int, sys.argv[1:3])
    exit_with_parent(parent, kill_process_tree)
    asked = json.loads(sys.stdin.readline())
    checking = threading.Thread(target=_check, args=(check, asked, answer), daemon=True)
    checking.start()
    failure = prepare(asked["settings"])
    checking.join()
    if not (named := sys.stdin.readline()):
        return  # the settings were not what they should be
    ledger = Ledger(Path(json.loads(named)))
    _redirect(ledger.folder / "log.txt")
    try:
        if failure:
            raise failure
        run(parse_settings(ledger.settings, str(ledger.folder)), ledger)
    except ColdFusionError as wrong:
        _log.error("%s", wrong)
        ledger.set_status("failed", reason=str(wrong))
        sys.exit(wrong.exit_code)
    except Exception as crash:
        # What crashes may leave threads behind that nothing ends.
        _log.exception("%s crashed", what)
        ledger.set_status("failed", reason=f"{what} crashed: {crash}")
        kill_process_tree()


def kill_process_tree() -> None:
    """End this process and all that it started, at once."""
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            process.kill()
    os._exit(1)


def _check(check: Callable[[Settings, str], None], asked: dict[str, Any], answer: int) -> None:
    """Say on a pipe what is wrong with the settings, or that nothing is."""
    wrong = None
    try:
        check(parse_settings(asked["settings"], asked["source"]), asked["source"])
    except ColdFusionError as error:
        wrong = {"class": type(error).__name__, "message": str(error)}
    except BaseException:  # a bug, or no memory: whoever waits for the answer must not wait for ever
        traceback.print_exc()
        sys.stderr.flush()
        kill_process_tree()
    with os.fdopen(answer, "w") as pipe:
        pipe.write(json.dumps(wrong) + "\n")


def _redirect(file: Path) -> None:
    """Print into a file from here on; what was printed before, into a temporary one, goes there first."""
    with file.open("ab", buffering=0) as log_file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        early = sys.stdout.fileno()
        log_file.write(os.pread(early, os.fstat(early).st_size, 0))
        os.truncate(early, 0)
        for stream in (sys.stdout, sys.stderr):
            os.dup2(log_file.fileno(), stream.fileno())
