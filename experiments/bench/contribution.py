"""Where the time of one contribution goes.

    python -m coldfusion_fl.experiments.bench.contribution [TASK]

A contributor's ClientApp gets a train message on one core, as in a simulation: 256 examples of at most 128 tokens. The
second of two contributions is measured, when everything is loaded. Printed are the seconds of its steps and the most
expensive operations, from torch.profiler.
"""

import pickle
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from torch.profiler import ProfilerActivity, profile

from coldfusion_fl.clients import handlers
from coldfusion_fl.clients.messages import to_record
from coldfusion_fl.engines.flower_internals import TaskIdentity
from coldfusion_fl.model.base import open_base
from coldfusion_fl.model.encoder import load_encoder

from .training import BASE

STEPS = ("read_train_request", "load_task", "build_model", "merge", "finetune", "split", "find_mismatch", "to_record")
CONFIG: dict[str, Any] = {"coldfusion.round": 1, "finetune.examples": 256, "finetune.epochs": 1}


def set_task_identity() -> None:
    """Set the IDs of a message's sender, which Flower sets in its own processes."""
    for name in ("_task_id", "_run_id", "_node_id"):
        setattr(TaskIdentity, name, 1)


def contribution(task: str) -> tuple[dict[str, float], profile]:
    """The seconds of each step, and the profile."""
    torch.set_num_threads(1)
    set_task_identity()
    context = Context(1, 1, {"task": task, "base": BASE}, RecordDict(), {})
    content = RecordDict({"arrays": to_record(load_encoder(open_base(BASE))), "config": ConfigRecord(CONFIG)})
    message = Message(content, dst_node_id=1, message_type="train")
    handlers.train(message, context)
    seconds: dict[str, float] = {}
    for name in STEPS:
        setattr(handlers, name, timed(getattr(handlers, name), name, seconds))
    with profile(activities=[ProfilerActivity.CPU]) as found:
        timed(lambda: pickle.loads(pickle.dumps(message)), "pickled and read, as Ray does", seconds)()
        reply = timed(handlers.train, "all of it in the ClientApp", seconds)(message, context)
    assert isinstance(reply.content["metrics"], MetricRecord)
    return seconds, found


def timed(step: Callable[..., Any], name: str, seconds: dict[str, float]) -> Callable[..., Any]:
    """Wrap a function to add its seconds to a table."""

    def run(*args: Any, **more: Any) -> Any:
        began = time.perf_counter()
        try:
            return step(*args, **more)
        finally:
            seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - began

    return run


def main() -> None:
    """Profile and print."""
    seconds, found = contribution(sys.argv[1] if len(sys.argv) > 1 else "reuters_r8")
    for name, spent in sorted(seconds.items(), key=lambda item: -item[1]):
        print(f"{spent:8.3f} s  {name}")
    print(found.key_averages().table(sort_by="self_cpu_time_total", row_limit=16, max_name_column_width=40))


if __name__ == "__main__":
    main()
