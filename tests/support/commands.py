"""`coldfusion` as a user starts it: a process of its own; importable without pytest."""

import os
import subprocess
import sys

COLDFUSION = [sys.executable, "-P", "-c", "from coldfusion_fl.cli.main import main; main()"]


def start_run(config, folder, **more):
    """Start a run from the folder that its own folder will lie in; `more` of the environment."""
    return subprocess.Popen(
        [*COLDFUSION, "run", str(config), "--out", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder.parent,
        env=os.environ | more,
    )
