"""Contributors of a simulation whose worker process was killed each time that it trained."""

import pytest
from fake_grid import node
from flwr.app import Error
from flwr.common.constant import ErrorCode as FlowerErrorCode
from strategy_runs import run_strategy

from coldfusion_fl.errors import ErrorCode, RunError

REASON = "<class 'ray.exceptions.ActorUnavailableError'>:<'The actor c0ffee is unavailable'>"


def killed(message):
    return Error(code=FlowerErrorCode.UNKNOWN, reason=REASON)


def test_it_is_named_with_the_likely_cause_and_not_blamed(ledger):
    nodes = [node("a"), node("b"), node("c", train=killed)]
    run_strategy(nodes, rounds=4, max_rejections=1, ledger=ledger)
    for record in ledger.records()[1:]:
        (rejection,) = record.rejected
        assert rejection.name == "c"
        assert "memory ran out, or its client crashed" in rejection.reason
        assert "client-resources-num-cpus" in rejection.reason  # what a project without our settings can change
        assert record.sampled == ["a", "b", "c"]  # it is not excluded
        assert record.fused


def test_a_round_that_fused_nothing_is_not_saved(ledger):
    with pytest.raises(RunError) as error:
        run_strategy([node("a"), node("b", train=killed)], ledger=ledger)
    assert error.value.code == ErrorCode.WORKERS_FAILED
    assert "b: its worker process" in str(error.value)
    assert ledger.rounds() == [0]


def test_a_rollback_is_no_failure_of_the_workers(ledger):
    scores = iter([1.0, 0.0])
    nodes = [node("a"), node("b"), node("c", train=killed)]
    run_strategy(nodes, ledger=ledger, score_fn=lambda encoder: next(scores), rollback=0.5)
    assert ledger.record(1).rolled_back


@pytest.mark.parametrize("name", ["RayTaskError(ModuleNotFoundError)", "RuntimeEnvSetupError"])
def test_another_error_of_ray_is_not_called_a_killed_worker(ledger, name):
    def broken(message):
        return Error(code=FlowerErrorCode.UNKNOWN, reason=f"<class 'ray.exceptions.{name}'>:<'No module named x'>")

    run_strategy([node("a"), node("b"), node("c", train=broken)], ledger=ledger)
    (rejection,) = ledger.record(1).rejected
    assert "No module named x" in rejection.reason


@pytest.mark.usefixtures("as_in_a_deployment")
def test_in_a_deployment_such_a_reply_ends_no_run(ledger):
    run_strategy([node("a"), node("b", train=killed)], ledger=ledger)
    assert ledger.rounds() == [0, 1]
    assert not ledger.record(1).fused
