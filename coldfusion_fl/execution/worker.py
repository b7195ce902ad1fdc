"""The run process: checks a run's settings and executes the run. `RunProcess` starts it and is its other end.

It is started as `python -m coldfusion_fl.execution.worker ENGINE PARENT PIPE [ARGUMENT ...]`: the engine's name, the
process ID of its parent, the file descriptor of a pipe for the result of the checks, and the engine's arguments. On
standard input it receives two lines of JSON: first the settings, then the run folder. Its parent copies its output to
the folder's log.
"""

import json
import logging
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from coldfusion_fl.config.parsing import parse_settings
from coldfusion_fl.errors import ColdFusionError, to_message
from coldfusion_fl.execution.engine import Engine, load_engine
from coldfusion_fl.process_tree import exit_with_parent, kill_own_tree
from coldfusion_fl.runs.ledger import Ledger

_log = logging.getLogger("coldfusion_fl")
_INTERRUPTED = 130


def main() -> None:
    """Be the run process."""
    name, parent, pipe = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    exit_with_parent(parent)
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s : %(message)s"))
    _log.addHandler(handler)
    _log.setLevel(logging.INFO)
    _log.propagate = False  # a library may have a handler at the root, which would print each line again
    try:
        run_worker(load_engine(name, sys.argv[4:]), pipe)
    except KeyboardInterrupt:  # the parent reports that the run was stopped
        _log.info("Stopped.")
        sys.exit(_INTERRUPTED)


def run_worker(engine: Engine, pipe: int) -> None:
    """Check the settings from standard input; once the run folder is known, execute the run.

    Args:
        engine: executes the run.
        pipe: the file descriptor for the result of the checks.
    """
    engine.set_up_process()
    request = json.loads(sys.stdin.readline())
    _check(engine, request, pipe)
    if not (folder := sys.stdin.readline()):
        return  # the checks failed, so there is no run folder
    ledger = Ledger(Path(json.loads(folder)))
    try:
        engine.run(parse_settings(ledger.settings, str(ledger.folder)), ledger)
    except ColdFusionError as error:
        _log.error("%s", error)
        ledger.state_file.failed(str(error))
        sys.exit(error.exit_code)
    except Exception as error:
        _log.exception("%s crashed", engine.title)
        ledger.state_file.failed(f"{engine.title} raised an unexpected {type(error).__name__}: {error}")
        # A crash may leave threads and child processes behind that would keep this process alive.
        kill_own_tree()


def _check(engine: Engine, request: dict[str, Any], pipe: int) -> None:
    """Write the progress of the checks and then their result to the pipe, a line of JSON each. See `RunProcess`."""
    with os.fdopen(pipe, "w") as stream:

        def send(message: dict[str, Any]) -> None:
            print(json.dumps(message), file=stream, flush=True)

        try:
            settings = parse_settings(request["settings"], request["source"])
            engine.prepare(settings)
            send({"notes": engine.check(settings, request["source"], lambda line: send({"progress": line}))})
        except ColdFusionError as error:
            send({"error": to_message(error)})
        except KeyboardInterrupt:  # a signal: see `main`
            raise
        except BaseException:  # a bug, or no memory left: without an answer, the parent would wait forever
            traceback.print_exc()
            sys.stderr.flush()
            kill_own_tree()


if __name__ == "__main__":
    main()
