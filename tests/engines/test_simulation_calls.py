"""Work that is handed to the thread of a simulation's ServerApp, with a runtime of the test's own in place of Ray."""

import pytest
from flwr.app import Context, RecordDict
from flwr.clientapp import ClientApp

from coldfusion_fl.config.settings import SimulationSettings
from coldfusion_fl.engines import simulation
from coldfusion_fl.engines.simulation import Simulation, count_workers
from coldfusion_fl.errors import ErrorCode, RunError, SettingsError


@pytest.fixture
def start(monkeypatch):
    """Starts a simulation; its runtime calls the ServerApp, or raises an error as Flower does."""

    def start(error=None):
        def run(server_app, *args, **kwargs):
            if error:
                raise RuntimeError("An error was encountered. Ending simulation.") from error
            server_app("the grid", Context(1, 0, {}, RecordDict(), {}))

        monkeypatch.setattr(simulation, "run_simulation", run)
        monkeypatch.setattr(simulation, "_POLL_INTERVAL", 0.01)
        return Simulation(ClientApp(), 2, SimulationSettings())

    return start


def test_work_gets_the_grid_and_its_result_is_returned(start):
    with start() as started:
        assert started.call(lambda grid: grid + "!") == "the grid!"
        assert started.call(lambda grid: grid + "?") == "the grid?"


@pytest.mark.parametrize("error", [ValueError("a bug"), TimeoutError("a slow disk"), RunError("no contributor")])
def test_an_error_of_the_work_is_the_callers(start, error):
    def work(grid):
        raise error

    with start() as started, pytest.raises(type(error), match=str(error)):
        started.call(work)


def test_the_first_cause_of_a_crash_is_named(start):
    with start(ValueError("no workers")) as started, pytest.raises(RunError, match="no workers") as error:
        started.call(lambda grid: None)
    assert error.value.code == ErrorCode.WORKERS_FAILED


def test_a_machine_that_is_too_small_for_a_worker_is_named_by_the_settings(monkeypatch):
    monkeypatch.setattr("ray.nodes", lambda: [{"Resources": {"CPU": 2.0}}])
    assert count_workers(SimulationSettings()) == 2
    with pytest.raises(SettingsError) as error:
        count_workers(SimulationSettings(cpus=4))
    assert "simulation.cpus" in str(error.value)
