"""One federation in real processes, and one run in it, that several files of tests look at."""

import pytest
from acme import Acme, fill_in, hooked, wait_for

from coldfusion_fl.runs.ledger import Ledger

RUN = {
    "contributors-per-round": "3",
    "evaluate.every": "-1",
    "finetune.keep-head": "true",
    "finetune.freeze": '"embeddings"',
    "server.max-rejections": "0",
}


@pytest.fixture(scope="session")
def acme(tmp_path_factory, toy_data, tiny_base):
    """A server that records what it receives, two honest members, one that is not, and one of another version."""
    made = Acme(tmp_path_factory.mktemp("federation"))
    members = {"a": "", "b": "", "c": "spoil", "old": "old"}
    made.init(members, toy_data, tiny_base)
    fill_in(made.folder / "members" / "old", "d", toy_data, tiny_base)
    # Many containers trust all proxies' headers, as this variable says.
    made.serve(hooked(f"record={made.home / 'received'}") | {"FORWARDED_ALLOW_IPS": "*"})
    for name, hook in members.items():
        made.join(name, more=hooked(hook))
    wait_for(lambda: made.online() == set(members))
    yield made
    assert not made.end()  # all ended with the process that started them


@pytest.fixture(scope="session")
def done(acme, toy_data, tiny_base):
    """A run of five rounds in the federation. In the second to the fourth one the third member sends what it likes."""
    folder = acme.home / "run"
    settings = acme.settings(toy_data, tiny_base, rounds="5", **RUN)
    ended = acme.coldfusion("run", settings, "--federation", acme.folder, "--out", folder, timeout=550)
    assert ended.returncode == 0, ended.stderr + (folder / "log.txt").read_text()
    (acme.home / "output").write_text(ended.stdout)
    return Ledger(folder)


@pytest.fixture(scope="session")
def simulated(acme, toy_data, tiny_base):
    """The first round of the same run as a simulation."""
    folder = acme.home / "simulated"
    settings = acme.settings(toy_data, tiny_base, rounds="1", **RUN)
    ended = acme.coldfusion("run", settings, "--out", folder)
    assert ended.returncode == 0, ended.stderr
    return Ledger(folder)
