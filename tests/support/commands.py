"""`coldfusion` as a user starts it: a process of its own; importable without pytest."""

import os
import subprocess
import sys

from coldfusion_fl.runs.ledger import Ledger

COLDFUSION = [sys.executable, "-P", "-c", "from coldfusion_fl.cli.main import main; main()"]


def start_run(config, folder, resume=False, **more):
    """Start or resume a run from the folder that its own folder will lie in; `more` of the environment."""
    return subprocess.Popen(
        [*COLDFUSION, "run", str(config), "--resume" if resume else "--out", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder.parent,
        env=os.environ | more,
    )


def complete_run(config, folder, resume=False):
    """Run to the end; the ledger, and what was printed."""
    process = start_run(config, folder, resume)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return Ledger(folder), output
