"""The contributor's ClientApp, called as Flower calls it."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from client_messages import FINETUNE, ask, context
from flwr.common.constant import ErrorCode as FlowerErrorCode

from coldfusion_fl.aggregation.compression import EncodedContribution, decode
from coldfusion_fl.clients import client_app, node_settings
from coldfusion_fl.clients.node_settings import read_node_settings
from coldfusion_fl.config.parsing import parse_table, read_settings
from coldfusion_fl.config.settings import COMPRESSIONS, FinetuneSettings
from coldfusion_fl.config.tables import flatten, to_table
from coldfusion_fl.data.task import load_task
from coldfusion_fl.errors import ErrorCode, SettingsError
from coldfusion_fl.evaluation.scores import hash_rows
from coldfusion_fl.fusion import Contribution, Fisher
from coldfusion_fl.training.node_state import BASE, FINETUNING, NodeFiles, contributor_folder
from coldfusion_fl.versions import format_versions


def returned(reply):
    assert not reply.has_error(), reply.error.reason
    return {name: array.numpy() for name, array in reply.content["arrays"].items()}


def test_a_contribution_is_the_encoder_alone(node, encoder):
    reply = ask("train", node, encoder)
    back = returned(reply)
    assert back.keys() == encoder.keys()
    assert any(not np.array_equal(back[name], encoder[name]) for name in encoder)
    assert reply.content["metrics"]["num-examples"] == 32
    assert reply.content["metrics"]["steps"] == 2
    assert not node.state.array_records  # the head is not stored


def test_the_same_round_gives_the_same_contribution(node, encoder):
    one, again, other = (returned(ask("train", node, encoder, **{"coldfusion.round": r})) for r in (1, 1, 2))
    assert all(one[name].tobytes() == again[name].tobytes() for name in one)
    assert any(one[name].tobytes() != other[name].tobytes() for name in one)


def test_a_kept_head_is_stored_in_the_nodes_own_context(node, encoder):
    reply = ask("train", node, encoder, **{"finetune.keep-head": True})
    assert returned(reply).keys() == encoder.keys()
    first = {name: array.numpy() for name, array in node.state["head"].items()}
    assert sorted(first) == ["head.bias", "head.weight"]
    kept = returned(ask("train", node, encoder, **{"finetune.keep-head": True, "coldfusion.round": 2}))
    fresh = returned(ask("train", node, encoder, **{"coldfusion.round": 2}))
    assert any(kept[name].tobytes() != fresh[name].tobytes() for name in kept)


def test_a_killed_node_continues_with_its_head_of_the_same_run(node, encoder, tmp_path):
    """It has a folder for its state; each message has a new context, as in a new process."""
    settings = {"finetune.keep-head": True}
    node_config = {**node.node_config, "state-dir": str(tmp_path / "kept")}

    def trained(server_round, run):
        config = {**settings, "coldfusion.round": server_round, "run": run}
        return returned(ask("train", context(node_config), encoder, **config))

    in_context = [
        returned(ask("train", node, encoder, **settings, **{"coldfusion.round": number})) for number in (1, 2)
    ]
    on_disk = [trained(number, "run-1") for number in (1, 2)]
    for one, other in zip(in_context, on_disk, strict=True):
        assert all(one[name].tobytes() == other[name].tobytes() for name in one)
    again = trained(2, "run-1")  # a repeated round starts with the state of the round before
    assert all(again[name].tobytes() == on_disk[1][name].tobytes() for name in again)
    another = trained(2, "run-2")
    assert any(another[name].tobytes() != on_disk[1][name].tobytes() for name in another)


def test_a_member_keeps_the_newest_base_that_it_scored_and_the_settings_of_its_training(node, encoder, tmp_path):
    node_config = {**node.node_config, "state-dir": str(tmp_path / "kept")}
    for server_round in (0, 1, 2):
        base = {name: array + np.float32(server_round) for name, array in encoder.items()}
        config = {"coldfusion.round": server_round, "run": "run-1", "coldfusion.modes": "frozen"}
        ask("evaluate", context(node_config), base, **config)
    files = NodeFiles(contributor_folder(tmp_path / "kept", "run-1"))
    assert files.newest_round(BASE) == 2
    assert len(list(files.folder.glob("base-*"))) == 1
    assert all(array.tobytes() == base[name].tobytes() for name, array in files.load(BASE).items())
    settings = json.loads((files.folder / FINETUNING).read_text())
    assert parse_table(FinetuneSettings, settings, FINETUNING).max_length == FINETUNE["finetune.max-length"]


def decoded(reply, base):
    parts = {kind: {n: a.numpy() for n, a in reply.content[kind].items()} for kind in ("arrays", "scales")}
    return decode(EncodedContribution(reply.content["config"]["coldfusion.compression"], *parts.values()), base)


@pytest.mark.parametrize("compression", COMPRESSIONS[1:])
def test_a_contribution_is_compressed_as_the_server_asks(node, encoder, compression):
    plain = returned(ask("train", node, encoder))
    reply = ask("train", node, encoder, **{"coldfusion.compression": compression})
    back = decoded(reply, encoder)
    size = sum(len(array.data) for kind in ("arrays", "scales") for array in reply.content[kind].values())
    assert size < 0.6 * sum(array.nbytes for array in plain.values())  # for arrays this small the headers matter
    for name, array in plain.items():
        furthest = np.abs(array - encoder[name]).max()
        # Key biases have no gradient but rounding errors, which may be smaller than the smallest float16.
        assert np.abs(back[name] - array).max() <= max(0.01 * furthest, np.finfo(np.float16).smallest_subnormal)
    lost = {name: array.numpy() for name, array in node.state["compression-error"].items()}
    assert all(np.allclose(back[name] + lost[name], plain[name], atol=1e-6) for name in plain)


def test_the_compression_error_is_added_to_the_next_contribution(node, encoder):
    ask("train", node, encoder, **{"coldfusion.compression": "int8"})
    lost = {name: array.numpy() for name, array in node.state["compression-error"].items()}
    plain = returned(ask("train", node, encoder, **{"coldfusion.round": 2}))
    after = decoded(
        ask("train", node, encoder, **{"coldfusion.compression": "int8"}, **{"coldfusion.round": 2}), encoder
    )
    still = {name: array.numpy() for name, array in node.state["compression-error"].items()}
    for name, array in plain.items():
        assert np.allclose(after[name] + still[name], array + lost[name], atol=1e-6)


def test_an_unknown_compression_is_answered_with_float32(node, encoder):
    reply = ask("train", node, encoder, **{"coldfusion.compression": "int4"})
    assert returned(reply).keys() == encoder.keys()
    assert "config" not in reply.content


def test_a_fisher_diagonal_is_sent_if_the_server_asks_for_one(node, encoder):
    reply = ask("train", node, encoder, **{"fisher-examples": 8})
    diagonal = {name: array.numpy() for name, array in reply.content["fisher"].items()}
    contribution = Contribution("b", returned(reply), fisher=diagonal)
    assert Fisher().rejection_reason(contribution) is None
    assert any(array.any() for array in diagonal.values())
    assert "fisher" not in ask("train", node, encoder).content


def test_two_nodes_with_different_classes_fit_one_base(node, encoder, toy_data, tiny_base):
    other = context({"task": "a", "catalogue": str(toy_data / "toy.toml"), "base": str(tiny_base)})
    assert returned(ask("train", other, encoder)).keys() == returned(ask("train", node, encoder)).keys()


def test_it_evaluates_on_its_own_test_rows(node, encoder):
    few = {
        "coldfusion.modes": "frozen,few-shot",
        "evaluate.shots": 12,
        "evaluate.few-shot-epochs": 1,
        "evaluate.few-shot-seeds": 1,
    }
    reply = ask("evaluate", node, encoder, **few)
    metrics = reply.content["metrics"]
    assert metrics["num-examples"] == 24
    assert 0 <= metrics["frozen"] <= 100
    assert 0 <= metrics["few-shot"] <= 100
    assert reply.content["config"]["head"] == "mean"
    assert re.fullmatch("[0-9a-f]{12}", reply.content["config"]["test-rows-hash"])
    assert ask("evaluate", node, encoder).content["config"] == reply.content["config"]  # and its hash
    no_shots = ask("evaluate", node, encoder, **few | {"evaluate.shots": 0})
    assert "few-shot" not in no_shots.content["metrics"]


def test_outputs_that_are_not_numbers_are_an_error_reply(node, encoder):
    reply = ask("evaluate", node, {name: array * np.float32(1e30) for name, array in encoder.items()})
    assert "the model's outputs on 'b' are not numbers" in reply.error.reason


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        (lambda e: {**e, "head": np.ones(2, np.float32)}, "'head'"),
        (lambda e: {k: v for k, v in e.items() if "query" not in k}, "4 weights"),
    ],
)
def test_a_base_of_another_architecture_is_an_error_reply(node, encoder, change, fact):
    reply = ask("train", node, change(encoder))
    assert fact in reply.error.reason
    assert "Traceback" not in reply.error.reason


def test_a_training_that_diverges_is_not_sent(node, encoder):
    reply = ask("train", node, encoder, **{"finetune.learning-rate": 1e36})
    assert "'b'" in reply.error.reason
    assert "not finite" in reply.error.reason


def test_the_hash_of_test_rows_says_nothing_about_other_nodes(node, encoder, toy_data):
    same_rows = context({**node.node_config, "name": "other"})
    first, second = (ask("evaluate", one, encoder).content["config"]["test-rows-hash"] for one in (node, same_rows))
    assert first != second
    task = load_task("b", (str(toy_data / "toy.toml"),))
    assert hash_rows(task, task.test.draw(500, [0])) not in (first, second)


def test_unknown_settings_are_an_error_reply(node, encoder):
    assert "finetune.speed" in ask("train", node, encoder, **{"finetune.speed": 3}).error.reason


@pytest.mark.parametrize("kind", ["train", "evaluate"])
@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"catalogue": "/secret/place/tasks.toml"}, "CatalogueError"),
        ({"base": "/secret/place/model"}, "ModelError"),
        ({"task": "secret"}, "CatalogueError"),
    ],
)
def test_errors_about_local_files_are_only_logged(node, encoder, kind, change, error, caplog):
    reply = ask(kind, context({**node.node_config, **change}), encoder)
    assert reply.error.reason == f"{error}: the details are in the contributor's own log"
    assert "secret" in caplog.text


def test_the_message_of_a_bug_is_only_logged(node, encoder, monkeypatch, caplog):
    def broken(*args):
        raise RuntimeError("/secret/place/train.csv, row 7: patient Smith")

    monkeypatch.setattr("coldfusion_fl.clients.handlers.load_task", broken)
    reason = ask("train", node, encoder).error.reason
    assert "RuntimeError" in reason
    assert "/secret/place" not in reason
    assert "patient Smith" in caplog.text


def test_a_missing_extra_is_named_in_the_reply(node, encoder, monkeypatch):
    def load(*_):
        raise ModuleNotFoundError("No module named 'pandas'", name="pandas")

    monkeypatch.setattr("coldfusion_fl.clients.handlers.train", load)
    reply = ask("train", node, encoder)
    assert reply.error.code == client_app.APP_RAISED == FlowerErrorCode.CLIENT_APP_RAISED_EXCEPTION
    assert reply.error.reason == (
        "the contributor's app needs pandas, which is not installed: pip install 'coldfusion-fl[models]'"
    )


def test_in_a_simulation_the_cause_of_a_bug_is_in_the_reply(node, encoder, monkeypatch):
    def broken(*args):
        raise RuntimeError("row 7 cannot be read")

    monkeypatch.setattr("coldfusion_fl.clients.handlers.load_task", broken)
    monkeypatch.setattr(client_app, "is_simulated", lambda: True)
    assert ask("train", node, encoder).error.reason == "RuntimeError: row 7 cannot be read"


def test_a_query_loads_neither_torch_nor_transformers():
    """A SuperNode starts a process for each message, and these two take seconds to load."""
    code = (
        "import sys; from coldfusion_fl.clients.client_app import app; "
        "from coldfusion_fl.versions import format_versions; format_versions(); "
        "sys.exit(bool({'torch', 'transformers', 'sklearn', 'pandas'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_it_describes_its_node(node):
    answer = dict(ask("query", node).content["config"])
    assert re.fullmatch("[0-9a-f]{32}", answer.pop("token"))
    assert answer == {"name": "b", "task": "b", "seen": True, "versions": format_versions()}


def test_a_node_without_a_task_replies_with_its_problem():
    answer = ask("query", context({})).content["config"]
    assert "--node-config" in answer["problem"]


def test_a_deployed_node_takes_nothing_from_the_server(tiny_base):
    run_config = {
        "base": "server/says",
        "tasks.seen": "a, b",
        "tasks.data-root": "/server/says",
        "tasks.catalogue": "c.toml",
    }
    settings = read_node_settings(
        context({"task": "rte", "base": str(tiny_base), "name": "org 1", "data-root": "/mine"}, run_config)
    )
    assert (
        settings.name,
        settings.task,
        settings.base,
        settings.data_root,
    ) == ("org 1", "rte", str(tiny_base), "/mine")
    assert settings.catalogues == ("packaged",)
    assert settings.run_folder is None
    with pytest.raises(SettingsError, match="base=") as error:
        read_node_settings(context({"task": "rte"}, run_config))
    assert error.value.code == ErrorCode.SETTING_MISSING


def test_a_deployed_node_with_a_partition_follows_no_run_config(toy_run):
    run_config = flatten(to_table(read_settings(toy_run())))
    with pytest.raises(SettingsError, match="task=") as error:
        read_node_settings(context({"partition-id": 0, "num-partitions": 5}, run_config))
    assert error.value.code == ErrorCode.SETTING_MISSING


def test_a_simulated_node_is_the_task_of_its_partition(toy_run, monkeypatch):
    monkeypatch.setattr(node_settings, "is_simulated", lambda: True)
    run_config = flatten(to_table(read_settings(toy_run())))
    contributors = [read_node_settings(context({"partition-id": i, "num-partitions": 5}, run_config)) for i in range(5)]
    assert [one.name for one in contributors] == ["a", "b", "c", "d", "u"]
    assert [one.seen for one in contributors] == [True] * 4 + [False]
    with pytest.raises(SettingsError, match="partition 5 .*5 tasks") as error:
        read_node_settings(context({"partition-id": 5}, run_config))
    assert error.value.code == ErrorCode.SETTINGS_CONFLICT
