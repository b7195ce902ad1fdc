"""A grid that plays the nodes, in one process and without Ray; importable without pytest."""

import random
import time

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity

SHAPE = (2, 3)  # of the one weight "w"


def set_task_identity():
    """Flower gives the process of a ServerApp these when it runs one; a message cannot be made without."""
    for name in ("_task_id", "_run_id", "_node_id"):
        setattr(TaskIdentity, name, 1)


class FakeGrid:
    """Answers each message by the node's own function, now or a little later; None: never."""

    pull_interval = 0.01

    def __init__(self, nodes, order_seed=0):
        self.nodes = nodes
        self.sent = []
        self._waiting = {}
        self._order = random.Random(order_seed)

    def get_node_ids(self):
        return list(self.nodes)

    def push_messages(self, messages):
        ids = []
        for number, message in enumerate(messages, start=len(self.sent)):
            message.metadata.__dict__["_message_id"] = f"m{number}"
            self.sent.append(message)
            self._waiting[f"m{number}"] = message
            ids.append(f"m{number}")
        return ids

    def pull_messages(self, message_ids):
        """What has arrived of these; each reply may still be on its way."""
        found = []
        for message_id in message_ids:
            if message_id not in self._waiting or self._order.random() < 0.5:
                continue
            message = self._waiting[message_id]
            node = message.metadata.dst_node_id
            answers = self.nodes[node](message)
            for answer in answers if isinstance(answers, list) else [answers]:
                if answer is not None:
                    self._waiting.pop(message_id, None)
                    reply = answer if isinstance(answer, Message) else Message(answer, reply_to=message)
                    reply.metadata.__dict__["_src_node_id"] = node
                    found.append(reply)
        return found

    def send_and_receive(self, messages, *, timeout=None):
        """What Flower's own loop asks of a grid."""
        waiting, replies = set(self.push_messages(messages)), []
        end = time.monotonic() + timeout
        while waiting and time.monotonic() < end:
            for reply in self.pull_messages(sorted(waiting)):
                waiting.discard(reply.metadata.reply_to_message_id)
                replies.append(reply)
        return replies


def node(name, value=1.0, train=None, seen=True, scores=True):
    def answer(message):
        kind = message.metadata.message_type
        if kind == "query":
            return RecordDict({"config": ConfigRecord({"name": name, "seen": seen})})
        if kind == "evaluate":
            frozen = float(message.content["arrays"]["w"].numpy().mean())
            metrics = MetricRecord({"frozen": frozen, "num-examples": 10})
            return RecordDict({"metrics": metrics}) if scores else Error(code=0, reason="no")
        if train:
            return train(message)
        base = message.content["arrays"]["w"].numpy()
        return contribution(base + np.float32(value))

    return answer


def failing_training(message):
    """What Flower answers for a ClientApp that raised."""
    return Error(code=2, reason="<class 'X'>:<'Traceback ...\n  File ...\nValueError: out of paper'>")


def diverging_node(name):
    """A node whose training ends in values that are not finite."""
    return node(name, train=lambda message: contribution(np.full(SHAPE, np.nan, np.float32)))


def contribution(array, round=None, examples=8, **more):
    arrays = ArrayRecord({"w": Array(array), **{name: Array(value) for name, value in more.items()}})
    metrics = MetricRecord({"loss": 0.5, "num-examples": examples})
    if round is not None:
        metrics["server-round"] = round
    return RecordDict({"arrays": arrays, "metrics": metrics})
