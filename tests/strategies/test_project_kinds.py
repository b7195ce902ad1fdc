"""Ten kinds of Flower projects, each with FedAvg and with ColDFusion in Flower's simulation.

All nodes train, and ColDFusion weights them by their examples, so that both must give the same arrays.
"""

import pytest
from projects.runs import ALARMS, copy_project, largest_difference, simulate_project

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]  # the first test waits for the environment
NODES, ROUNDS = 4, 3
# The accuracy on the server's data, which both strategies reach.
KINDS = {
    "plain_torch": 0.88,
    "personal_heads": 0.38,  # the server has the bodies alone, with its first head
    "filtered_replies": 0.88,
    "node_learning_rates": 0.88,
    "own_metrics": 0.88,
    "own_loop": 0.88,
    "lora_adapters": 0.82,
    "scikit_scalars": 0.82,
    "batch_norm": 0.88,
    "private_mods": 0.85,
}
# These run Flower's own loop, or one of their own, which does not evaluate the first arrays at the nodes.
OTHER_LOOPS = ("own_loop", "private_mods")


@pytest.fixture
def runs(fresh, foreign, tmp_path, request):
    """The run of a project with FedAvg, and the one with ColDFusion."""
    name = request.param
    project = copy_project(name, tmp_path)
    both = [simulate_project(fresh / "python", foreign, project, NODES, kind) for kind in ("FedAvg", "ColDFusion")]
    for kind, run in zip(("FedAvg", "ColDFusion"), both, strict=True):
        print(f"{name} | {kind} | {run.row()}")
    return name, *both


@pytest.mark.parametrize("runs", KINDS, indirect=True)
def test_a_project_does_the_same_with_either_strategy(runs):
    name, fedavg, ours = runs
    assert len(ours.accuracies) == ROUNDS + 1
    assert ours.accuracies[-1] >= KINDS[name]
    assert ours.accuracies == pytest.approx(fedavg.accuracies, abs=0.005)
    if name == "batch_norm":  # FedAvg makes fractions of the counts of batches, which are whole numbers
        counts = {key for key, array in ours.arrays.items() if array.dtype.kind == "i"}
        assert counts == {"1.num_batches_tracked"}
        for run in (fedavg, ours):
            assert run.arrays.pop("1.num_batches_tracked") > 0
    assert largest_difference(fedavg, ours) < 1e-6
    check_metrics(fedavg, ours)
    check_messages(name, fedavg, ours)
    check_output(name, fedavg, ours)


def check_metrics(fedavg, ours):
    """The metrics of FedAvg are there, with the same values; but a mod measures seconds."""
    for kind in ("train", "evaluate"):
        for number, metrics in fedavg.report[kind].items():
            expected = {key: value for key, value in metrics.items() if key != "seconds"}
            found = ours.report[kind][number]
            assert metrics.keys() <= found.keys()
            assert {key: found[key] for key in expected} == pytest.approx(expected, rel=1e-4)


def check_messages(name, fedavg, ours):
    """There are no more messages than FedAvg's and those of one evaluation, which is of the first arrays."""
    sent, expected = ours.report["messages"], fedavg.report["messages"]
    assert expected == {"train": NODES * ROUNDS, "evaluate": NODES * ROUNDS}
    assert sent["train"] == expected["train"]
    if name == "lora_adapters":  # after their first answer, the clients are not asked again
        assert sent["evaluate"] == NODES
    else:
        assert sent["evaluate"] == expected["evaluate"] + (0 if name in OTHER_LOOPS else NODES)


def check_output(name, fedavg, ours):
    """No error and no traceback is added to those of FedAvg."""
    # One warning tells the project of personal heads that its clients send arrays that are not shared.
    assert ours.lines(*ALARMS) <= fedavg.lines(*ALARMS) + (name == "personal_heads")
    assert ours.lines() <= fedavg.lines() + 40
    if name == "lora_adapters":  # Flower's simulation prints one for each message that a client has no function for
        assert ours.tracebacks == NODES < fedavg.tracebacks
    else:
        assert (fedavg.tracebacks, ours.tracebacks) == (0, 0)
