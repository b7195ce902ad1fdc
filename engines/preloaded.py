"""Imports what the workers of a simulation need, in the run process before `fork_server` is forked from it.

Ray is not imported here. It reads variables of the environment when it is imported, and they differ from process to
process.
"""

# ruff: noqa: F401  (the imports are all that this module is for)
import flwr.simulation
import sklearn.metrics

import coldfusion_fl.clients.client_app
import coldfusion_fl.clients.handlers
import coldfusion_fl.engines.simulated_preflight
import coldfusion_fl.preflight.task_check
