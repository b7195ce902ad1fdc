"""Data sets and models of the Hugging Face Hub, from a Hub on loopback: what is read, and the messages of errors."""

import json
import shutil
import subprocess
import sys

import huggingface_hub
import pytest
from commands import COLDFUSION
from web.fake_hub import INVALID_TOKEN, FakeHub, write_data_sets

from coldfusion_fl import hub as our_hub
from coldfusion_fl.data.catalogue import TaskSpec, read_catalogues
from coldfusion_fl.errors import ErrorCode
from coldfusion_fl.hub import unreachable_reason

CATALOGUE = """
[tasks.news]
hub = "org/news"
test = "test"
[tasks.rte]
hub = "org/glue"
config = "rte"
text = ["sentence1", "sentence2"]
test = "validation"
[tasks.lines]
hub = "org/lines"
test = "test"
[tasks.no-config]
hub = "org/glue"
[tasks.other-config]
hub = "org/glue"
config = "rtee"
[tasks.other-split]
hub = "org/news"
test = "dev[:50%]+test"
[tasks.other-revision]
hub = "org/news"
revision = "v9"
[tasks.other-column]
hub = "org/news"
text = "txt"
[tasks.misspelt]
hub = "org/newss"
[tasks.no-organisation]
hub = "newss"
[tasks.gated]
hub = "org/gated"
[tasks.path]
hub = "org/news/train"
[tasks.space]
hub = "org/my news"
"""
# In another process, because the library reads its environment when it is imported. Each case is KIND:NAME:TOKEN.
READ = """
import json, os, sys
from coldfusion_fl.data.task import load_task
from coldfusion_fl.errors import ColdFusionError
from coldfusion_fl.model.base import open_base

for case in sys.argv[2:]:
    kind, name, os.environ["HF_TOKEN"] = case.split(":")
    try:
        found = len(load_task(name, (sys.argv[1],)).train) if kind == "task" else open_base(name).tokenizer.vocab_size
        code = message = ""
    except ColdFusionError as error:
        found, code, message = 0, error.code, str(error)
    print(json.dumps([case, found, code, message]))
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory, tiny_base, toy_data):
    """A Hub with two data sets in parquet, one in JSON lines, a gated one, and a model of each kind."""
    folder = tmp_path_factory.mktemp("hub")
    (folder / "catalogue.toml").write_text(CATALOGUE)
    cola = TaskSpec(hub="org/glue", config="cola", text=("sentence",), test="validation")
    good = read_catalogues([str(folder / "catalogue.toml")]).specs
    sets = write_data_sets(folder / "sets", [good["news"], good["rte"], cola])
    lines = shutil.copytree(toy_data / "a", folder / "lines")
    model = shutil.copytree(tiny_base, folder / "model")
    (model / "pytorch_model.bin").write_text("the same weights in a format that is not read")
    with FakeHub() as server:
        server.folder = folder
        server.datasets |= sets | {"org/lines": lines, "org/gated": sets["org/news"]}
        server.models |= {"org/model": model, "org/gated": model}
        server.gated = {"org/gated"}
        yield server
    assert not server.unknown


@pytest.fixture(scope="module")
def read(hub):
    """Reads cases in one process with an empty or filled cache; the size, code and message of each, and the output."""

    def run(*cases, cache="cache", **environment):
        done = subprocess.run(
            [sys.executable, "-c", READ, str(hub.folder / "catalogue.toml"), *cases],
            capture_output=True,
            text=True,
            timeout=300,
            env=hub.environment(hub.folder / cache, **environment),
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        return {case: found for case, *found in map(json.loads, done.stdout.splitlines())}, done.stderr

    return run


CASES = {
    "task:no-config:": (ErrorCode.DATA_MISSING, ['config = "rte"', "rte, cola"]),
    "task:other-config:": (ErrorCode.DATA_MISSING, ["'rtee'", "Did you mean 'rte'?"]),
    "task:other-split:": (ErrorCode.DATA_MISSING, ["no split 'dev'", "train, test"]),
    "task:other-revision:": (ErrorCode.DATA_MISSING, ["no revision 'v9'"]),
    "task:other-column:": (ErrorCode.COLUMN_MISSING, ["'txt'", "Did you mean 'text'?"]),
    "task:misspelt:": (ErrorCode.DATA_MISSING, ["no data set of this id", "private", "hf auth login"]),
    "task:no-organisation:": (ErrorCode.DATA_MISSING, ["no data set of this id"]),
    "task:path:": (ErrorCode.DATA_MISSING, ["ORGANISATION/NAME"]),
    "task:space:": (ErrorCode.DATA_MISSING, ["ORGANISATION/NAME"]),
    "task:gated:": (ErrorCode.HUB_ACCESS, ["must be granted", "/datasets/org/gated,", "hf auth login"]),
    "task:gated:hf_stranger": (ErrorCode.HUB_ACCESS, ["must be granted", "/datasets/org/gated,"]),
    f"task:lines:{INVALID_TOKEN}": (ErrorCode.HUB_ACCESS, ["rejects this machine's token"]),
    "base:org/modell:": (ErrorCode.MODEL_MISSING, ["no model of this id", "hf auth login"]),
    "base:modell:": (ErrorCode.MODEL_MISSING, ["no local folder", "no model of this id"]),
    "base:my model:": (ErrorCode.MODEL_MISSING, ["no local folder", "ORGANISATION/NAME"]),
    "base:org/gated:": (ErrorCode.HUB_ACCESS, ["must be granted", "/org/gated,"]),
    "base:org/gated:hf_stranger": (ErrorCode.HUB_ACCESS, ["must be granted"]),
    "base:org/model@v9:": (ErrorCode.MODEL_MISSING, ["org/model@v9: no local folder", "no revision 'v9'"]),
    "base:org/modell@v9:": (ErrorCode.MODEL_MISSING, ["no model of this id"]),
    "base:org/model@:": (ErrorCode.MODEL_MISSING, ["no revision follows the @", "ID@REVISION"]),
    f"base:org/model:{INVALID_TOKEN}": (ErrorCode.HUB_ACCESS, ["rejects this machine's token"]),
}
GOOD = ("task:news:", "task:rte:", "task:lines:", "base:org/model:", "base:org/model@main:")


@pytest.fixture(scope="module")
def online(read):
    # The wrong ones come first, as long as nothing is in the cache.
    return read(*CASES, *GOOD)[0]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_an_error_names_the_reason_and_what_to_do(online, case):
    code, facts = CASES[case]
    size, found, message = online[case]
    assert (size, found) == (0, code), message
    for fact in facts:
        assert fact in message
    assert "\n" not in message


@pytest.mark.slow
def test_data_sets_and_models_are_read(online):
    assert all(online[case][0] for case in GOOD), online


@pytest.mark.slow
def test_weights_that_are_not_read_are_not_loaded(hub, online):
    assert any("org/model/resolve" in request and "model.safetensors" in request for request in hub.requests)
    assert not any("pytorch_model.bin" in request for request in hub.requests)


@pytest.mark.slow
def test_tasks_of_the_hub_are_listed(hub):
    done = subprocess.run(
        [*COLDFUSION, "tasks", "rte,misspelt", "--catalogue", str(hub.folder / "catalogue.toml")],
        capture_output=True,
        text=True,
        timeout=300,
        env=hub.environment(hub.folder / "cache"),
        check=False,
    )
    row = next(line for line in done.stdout.splitlines() if line.startswith("│ rte "))
    name, metric, classes, train, validation, test, _ = (cell.strip() for cell in row.strip("│").split("│"))
    assert (name, metric, classes, test) == ("rte", "accuracy", "2", "24")
    assert int(train) + int(validation) == 60
    assert "60 rows read from split 'train'" in done.stdout
    assert "│ no " in done.stdout and "│ yes " in done.stdout  # the classes' names, not their numbers
    assert done.returncode == 2  # because of the other one
    assert done.stderr.count("coldfusion: task 'misspelt'") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("way", ["offline", "refused", "down"])
def test_without_the_hub_the_cache_is_used_at_once(hub, read, online, way):
    environment = {"offline": {"HF_HUB_OFFLINE": "1"}, "refused": {"HF_ENDPOINT": "http://127.0.0.1:9"}}.get(way, {})
    before = len(hub.requests)
    hub.broken = way == "down"
    try:
        found, printed = read(*GOOD, "task:misspelt:", "base:org/modell:", "task:other-config:", **environment)
    finally:
        hub.broken = False
    assert all(found[case][0] for case in GOOD), found
    for case in ("task:misspelt:", "base:org/modell:"):
        _, code, message = found[case]
        assert code == ErrorCode.HUB_UNREACHABLE
        assert "HF_HUB_OFFLINE is set" in message if way == "offline" else "does not answer" in message
        assert str(hub.folder / "cache") in message
    assert "rtee" in found["task:other-config:"][2]
    assert "Retrying" not in printed
    assert hub.requests[before:] == (["HEAD /"] * 2 if way == "down" else [])


@pytest.fixture
def library(hub, monkeypatch):
    """The library in this process, with the Hub on loopback, which has not been asked yet."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.endpoint)
    monkeypatch.setattr(our_hub, "_last_failure", None)
    monkeypatch.setattr(our_hub, "_has_answered", False)
    monkeypatch.setattr(our_hub.time, "sleep", lambda seconds: None)
    before = len(hub.requests)
    return lambda: hub.requests[before:]


def test_a_hub_that_answers_is_asked_once(library):
    assert [unreachable_reason(), unreachable_reason()] == ["", ""]
    assert library() == ["HEAD /"]


def test_a_hub_that_is_down_is_asked_again_after_a_minute(hub, library, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(our_hub.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(hub, "broken", True)
    assert "503" in unreachable_reason()
    now[0] += 30
    assert "503" in unreachable_reason()
    assert library() == ["HEAD /"] * 2
    monkeypatch.setattr(hub, "broken", False)
    now[0] += 31
    assert unreachable_reason() == ""


def test_a_connection_that_is_refused_is_a_reason(library, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    assert "refused" in unreachable_reason()
