"""What the workers of a simulation need, loaded in the run process before it is copied: see `worker_copies`.

Ray is not here: what it reads from the environment when it is loaded is another in each process.
"""

# ruff: noqa: F401  (the imports are all that this module is for)
import flwr.simulation
import sklearn.metrics

import coldfusion_fl.clients.client_app
import coldfusion_fl.clients.handlers
import coldfusion_fl.engines.simulated_preflight
import coldfusion_fl.preflight.task_check
