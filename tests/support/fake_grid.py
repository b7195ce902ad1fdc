"""Flower's in-memory grid with nodes that are functions in this process; no Ray, and importable without pytest.

Replies that Flower's link state would not take go around it, because a deployment's nodes can send them: a second reply
to one message, and a reply that names another message than the one that it answers.
"""

import random
from math import inf
from uuid import uuid4

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, Metadata, MetricRecord, RecordDict
from flwr.common.constant import NOOP_ACCOUNT_NAME, NOOP_FLWR_AID, SUPERLINK_NODE_ID
from flwr.proto.node_pb2 import NodeInfo
from flwr.proto.task_pb2 import Task
from flwr.server.superlink.linkstate import LinkStateFactory
from flwr.server.superlink.linkstate.in_memory_linkstate import RunRecord
from flwr.supercore.constant import FLWR_IN_MEMORY_DB_NAME, NOOP_FEDERATION_ID
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.federation import NoOpFederationManager
from flwr.superlink.grid import InMemoryGrid

SHAPE = (2, 3)  # of the one weight "w"
RUN_ID = TASK_ID = 1


def set_task_identity():
    """Flower gives the process of a ServerApp these when it runs one; a message cannot be made without."""
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = TASK_ID, RUN_ID, SUPERLINK_NODE_ID


def with_message_id(reply):
    """The reply as a node sends it: with a message ID."""
    names = ("run_id", "src_node_id", "dst_node_id", "reply_to_message_id", "group_id", "created_at", "ttl")
    same = {name: getattr(reply.metadata, name) for name in (*names, "message_type")}
    metadata = Metadata(message_id=str(uuid4()), **same)
    metadata.delivered_at = ""
    return Message(**{"error": reply.error} if reply.has_error() else {"content": reply.content}, metadata=metadata)


class FakeGrid(InMemoryGrid):
    """Calls a node's function with each message to it, when the reply is pulled.

    Args:
        nodes: a function of a message by node ID (2 or more: 1 is the server's). It returns the content of the reply,
            an Error, or None for no reply; a Message, or a list of replies, goes around Flower's link state.
        order_seed: seed of the draw whether a reply is there already when it is pulled.

    Attributes:
        is_simulation: whether the grid looks like that of a simulation; a deployment's has no pull interval.
        sent: all messages that were pushed.
    """

    is_simulation = True

    def __init__(self, nodes, order_seed=0):
        factory = LinkStateFactory(FLWR_IN_MEMORY_DB_NAME, NoOpFederationManager(), ObjectStoreFactory())
        super().__init__(factory, pull_interval=0.01)
        if not self.is_simulation:
            del self.pull_interval
        run = Run.create_empty(RUN_ID)
        run.primary_task_id, run.federation_id = TASK_ID, NOOP_FEDERATION_ID
        # As Flower's simulation registers its run.
        self.state.run_ids[RUN_ID] = RunRecord(run=run)
        self.state.task_store[TASK_ID] = Task(task_id=TASK_ID, run_id=RUN_ID)
        self.set_run(run)
        self.nodes = nodes
        self.sent = []
        self._waiting = {}
        self._unchecked = {}
        self._order = random.Random(order_seed)

    def get_node_ids(self):
        return list(self.nodes)

    def push_messages(self, messages):
        messages = list(messages)
        for message in messages:
            self._register(message.metadata.dst_node_id)
        ids = list(super().push_messages(messages))
        self.sent += messages
        self._waiting |= dict(zip(ids, messages, strict=True))
        return ids

    def pull_messages(self, message_ids):
        """What has arrived of these; each reply may still be on its way."""
        message_ids = list(message_ids)
        for message_id in message_ids:
            if message_id in self._waiting and self.has_arrived(self._waiting[message_id]):
                self._answer(message_id)
        unchecked = [reply for message_id in message_ids for reply in self._unchecked.pop(message_id, [])]
        return [*super().pull_messages(message_ids), *unchecked]

    def has_arrived(self, message):
        """Whether the reply to the message is there now."""
        return self._order.random() >= 0.5

    def _answer(self, message_id):
        message = self._waiting[message_id]
        answer = self.nodes[message.metadata.dst_node_id](message)
        if answer is None:
            return
        del self._waiting[message_id]
        if isinstance(answer, list | Message):
            answers = answer if isinstance(answer, list) else [answer]
            self._unchecked[message_id] = [
                a if isinstance(a, Message) else Message(a, reply_to=message) for a in answers
            ]
        else:
            assert self.state.store_message_res(with_message_id(Message(answer, reply_to=message)))

    def _register(self, node_id):
        self.state.nodes[node_id] = NodeInfo(
            node_id=node_id,
            owner_aid=NOOP_FLWR_AID,
            owner_name=NOOP_ACCOUNT_NAME,
            status="online",
            online_until=inf,
            heartbeat_interval=inf,
        )


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
        metrics["coldfusion.round"] = round
    return RecordDict({"arrays": arrays, "metrics": metrics})
