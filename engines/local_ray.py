"""Ray on this machine, started and ended by a process of its own.

Ray takes seconds to start. In its own process it does so while the run process loads its libraries. Ray also starts
threads, and the run process must have none of them when `fork_server` is forked from it.
"""

import json
import os
import subprocess
import sys

from coldfusion_fl.errors import ErrorCode, RunError
from coldfusion_fl.process_tree import exit_with_parent

_START_ATTEMPTS = 3
# Ray would start a worker for each core at once, in the usual way.
_NO_EARLY_WORKERS = {"RAY_prestart_worker_first_driver": "0"}


class LocalRay:
    """Starts Ray, and does not wait for it. Ray ends with this process.

    Args:
        early_workers: whether Ray starts Python for its workers before there is work.
    """

    def __init__(self, early_workers: bool) -> None:
        # Ray's workers must find the same packages as this process.
        path = os.pathsep.join(filter(None, [*sys.path, os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__, str(os.getpid())],
            stdin=subprocess.PIPE,  # it ends when this does
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path, **({} if early_workers else _NO_EARLY_WORKERS)},
        )

    def address(self) -> str:
        """Wait until Ray is ready, and return its address.

        Raises:
            RunError: Ray did not start.
        """
        assert self._process.stdout
        line = self._process.stdout.readline()
        answer = json.loads(line) if line else {"error": f"its process ended with code {self._process.wait()}"}
        if "error" in answer:
            raise RunError(
                f"cannot start Ray on this machine: {answer['error']}. If the machine is busy, try again later.",
                code=ErrorCode.WORKERS_FAILED,
            )
        return str(answer["address"])


def main() -> None:
    """Be the process that starts Ray: print its address, or why it did not start, as JSON."""
    exit_with_parent(int(sys.argv[1]))
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # the lines of Ray and of what it starts go to the log
    try:
        found = {"address": start_ray()}
    except Exception as error:  # of Ray's many types
        found = {"error": str(error)}
    print(json.dumps(found), file=answer, flush=True)
    answer.close()
    sys.stdin.read()


def start_ray() -> str:
    """Start Ray, and try again where it takes longer than the 30 s that Ray waits for itself on a busy machine.

    Returns:
        Its address.

    Raises:
        Exception: what Ray raised at the last attempt.
    """
    import ray

    for attempt in range(1, _START_ATTEMPTS + 1):
        try:
            # Without an address, Ray would connect to any cluster that was ever started on this machine.
            ray.init(address="local", include_dashboard=False, log_to_driver=False)
            break
        except Exception as error:
            ray.shutdown()
            if attempt == _START_ATTEMPTS:
                raise
            print(f"WARNING : Ray did not start ({error}). It is started again.", file=sys.stderr, flush=True)
    return str(ray.get_runtime_context().gcs_address)


if __name__ == "__main__":
    main()
