"""A run with frozen embeddings: what is sent, what is saved, and what it goes on with."""

import numpy as np
import pytest
from fake_grid import FakeGrid
from flwr.app import Context, RecordDict
from tiny_models import make_base, make_checkpoint

from coldfusion_fl.arrays.hashing import encoder_hash
from coldfusion_fl.clients.client_app import contributor_app
from coldfusion_fl.config.parsing import read_settings
from coldfusion_fl.config.tables import to_table
from coldfusion_fl.errors import RunError
from coldfusion_fl.model.base import open_base
from coldfusion_fl.model.encoder import load_encoder
from coldfusion_fl.repository.checkpoint_round import fuse_into_run
from coldfusion_fl.repository.undo import undo_round
from coldfusion_fl.runs.events import ContributorExcluded
from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.strategies.server_app import serve

EMBEDDING = "embeddings.word_embeddings.weight"
TOY = {
    "tasks.seen": '"a, b, c"',
    "tasks.unseen": "[]",
    "finetune.freeze": '"embeddings"',
    "evaluate.every": "-1",
    "evaluate.shots": "0",
}


@pytest.fixture
def run(toy_run, toy_data, tiny_base, tmp_path):
    """Begins or resumes a run with real contributors in this process; returns its folder and its messages both ways."""

    def execute(rounds=2, member_base=tiny_base, **changes):
        folder, messages = tmp_path / "run", []

        def contributor(task):
            config = {"task": task, "catalogue": str(toy_data / "toy.toml"), "base": str(member_base)}
            context = Context(1, 2, config, RecordDict(), {})

            def answer(message):
                reply = contributor_app()(message, context)
                messages.extend((message, reply))
                return reply

            return answer

        settings = read_settings(toy_run(**{**TOY, "rounds": str(rounds), **changes}))
        settings = settings.model_copy(update={"out": str(folder)})
        open_ledger = Ledger.resume if (folder / "run.json").exists() else Ledger.create
        ledger = open_ledger(folder, to_table(settings))
        serve(FakeGrid({100 + n: contributor(task) for n, task in enumerate("abc")}), settings, ledger)
        return ledger, messages

    return execute


@pytest.fixture(scope="module")
def first(tiny_base):
    return load_encoder(open_base(str(tiny_base)))


def sent_arrays(messages):
    """The names of the arrays in each record of arrays."""
    return [set(record) for message in messages for record in message.content.array_records.values()]


INT8 = {"server.compression": '"int8"'}
RECOMMENDED = {"server.server-optimizer": '"nesterov(learning-rate=0.7, momentum=0.9)"', "server.ema": "0.7"}


@pytest.mark.parametrize("changes", [{"evaluate.every": "1"}, {**RECOMMENDED, "evaluate.every": "1"}, INT8])
def test_no_message_has_the_embeddings_and_the_result_has_those_of_the_base(run, first, changes):
    ledger, messages = run(**changes)
    names = sent_arrays(messages)
    shared = first.keys() - {EMBEDDING}
    assert all(found == shared for found in names)
    # Train messages and replies, evaluate messages, and the scales of int8.
    assert len(names) == 2 * 3 * 2 + (3 * 3 if "evaluate.every" in changes else 0) + (6 if changes == INT8 else 0)
    assert all(record.fused and len(record.contributions) == 3 for record in ledger.records()[1:])
    for folder in (ledger.folder / "model", ledger.folder / "last-base"):
        if folder.exists():
            model = load_encoder(open_base(str(folder)))
            assert model.keys() == first.keys()
            assert model[EMBEDDING].tobytes() == first[EMBEDDING].tobytes()
            assert all(not np.array_equal(model[name], first[name]) for name in shared if "query.weight" in name)


def test_the_rounds_on_disk_share_one_file_of_the_embeddings(run, first):
    ledger, _ = run()
    files = [ledger.round_folder(number) / "constant.safetensors" for number in ledger.rounds()]
    assert len({file.stat().st_ino for file in files}) == 1
    frozen = first[EMBEDDING].nbytes
    assert all(file.with_name("base.safetensors").stat().st_size < frozen / 4 for file in files)
    for number in ledger.rounds():
        base = ledger.load_base(number)
        assert encoder_hash(base) == ledger.record(number).base_sha256
        assert base[EMBEDDING].tobytes() == first[EMBEDDING].tobytes()
        assert not ledger.find_damage(number)


def test_a_run_resumes_with_the_same_result_also_after_its_first_rounds_were_removed(run, tmp_path):
    unbroken, _ = run(rounds=3, **RECOMMENDED)
    kept = tmp_path / "unbroken"
    unbroken.folder.rename(kept)
    run(rounds=2, **RECOMMENDED, **{"server.keep-last": "1"})
    resumed, _ = run(rounds=3, **RECOMMENDED, **{"server.keep-last": "1"})
    assert not (resumed.round_folder(0) / "constant.safetensors").exists()
    assert resumed.record(3).base_sha256 == Ledger(kept).record(3).base_sha256
    assert encoder_hash(resumed.load_base(3)) == resumed.record(3).base_sha256


def test_members_with_another_base_are_excluded_by_name_before_the_first_round(run, tmp_path):
    other = make_base(tmp_path / "other", initializer_range=0.5)
    with pytest.raises(RunError, match="connected: 0, excluded: 3 .the first: a: .*the frozen weights"):
        run(rounds=1, member_base=other, **{"node-timeout": "2"})
    ledger = Ledger(tmp_path / "run")
    assert ledger.rounds() == [0]
    excluded = {event.name: event.reason for event in ledger.events() if isinstance(event, ContributorExcluded)}
    assert excluded.keys() == {"a", "b", "c"}
    assert all("the frozen weights of this node's base are not those of the run" in why for why in excluded.values())


def test_a_round_of_checkpoints_leaves_the_embeddings_of_the_checkpoints_out(run, first, tiny_base, tmp_path):
    ledger, _ = run(rounds=1)
    checkpoints = [str(make_checkpoint(tmp_path / f"c{seed}", tiny_base, seed)) for seed in (1, 2)]
    warnings = []
    added = fuse_into_run(ledger.folder, checkpoints, warn=warnings.append)
    base = ledger.load_base(2)
    assert added.record.fused and base.keys() == first.keys()
    assert base[EMBEDDING].tobytes() == first[EMBEDDING].tobytes()
    assert warnings == ["the run keeps its embeddings (freeze): those of the checkpoints are left out."]
    assert not fuse_into_run(ledger.folder, checkpoints).is_new
    resumed, messages = run(rounds=3)
    assert EMBEDDING not in set.union(*sent_arrays(messages))
    assert resumed.record(3).fused


def test_a_round_of_checkpoints_can_be_undone(run, tiny_base, tmp_path):
    ledger, _ = run(rounds=1, **RECOMMENDED)
    before = (ledger.folder / "model" / "model.safetensors").read_bytes()
    fuse_into_run(ledger.folder, [str(make_checkpoint(tmp_path / f"c{seed}", tiny_base, seed)) for seed in (1, 2)])
    undo_round(ledger.folder, 2)
    assert (ledger.folder / "model" / "model.safetensors").read_bytes() == before
