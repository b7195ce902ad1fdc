"""The guide's commands, as they stand there, one after the other in one shell."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from coldfusion_fl.run.ledger import Ledger

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]


def commands():
    """What is typed in the guide's console blocks."""
    text = (ROOT / "docs" / "how-to" / "federation.md").read_text(encoding="utf-8")
    lines = [line for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    assert all(line.startswith(("$ ", "> ")) for line in lines)
    return "\n".join(line[2:] for line in lines)


def test_every_command_of_the_guide_works(tmp_path):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    script = commands().replace("127.0.0.1:9443", f"127.0.0.1:{port}")
    # In the guide a person waits until the server is up, and until the jobs have ended.
    script = script.replace(
        "> server.log &", "> server.log &\nuntil grep -q 'is up at' server.log; do sleep 1; done", 1
    )
    script = script.replace("rounds = 2", "rounds = 1", 1)  # a round of three members takes this machine a minute
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    process = subprocess.Popen(
        [shutil.which("bash"), "-c", f"set -em\n{script}\nwait"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=500)
    finally:
        mine = [one for one in psutil.process_iter(["cwd"]) if one.info["cwd"] == str(tmp_path)]
        for one in mine:
            one.send_signal(signal.SIGKILL)
    assert process.returncode == 0, said
    assert not mine, said
    ledger = Ledger(tmp_path / "first-run")
    assert ledger.rounds() == [0, 1]
    assert ledger.load_scores(1).keys() == {"newsgroups", "movie_sentiment", "election_tweets"}
    assert " FAIL  " not in said
    assert "first-run: finished, 1 of 1 rounds are done" in said
    assert (ledger.folder / "model" / "model.safetensors").is_file()
