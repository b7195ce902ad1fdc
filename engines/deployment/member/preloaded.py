"""What the processes that handle a member's messages have loaded before they start: see `executor`."""

# ruff: noqa: F401  (the imports are all that this module is for)
import gc

import sklearn.metrics

import coldfusion_fl.clients.client_app
import coldfusion_fl.clients.handlers
import coldfusion_fl.engines.deployment.member.executor
from coldfusion_fl.engines.flower_internals import run_clientapp

# The collector would write to the memory of all objects, which copies then no longer share.
gc.freeze()
