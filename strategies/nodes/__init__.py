"""The nodes: which are connected, who is sampled, and the messages to them."""

from .array_records import select_shared
from .membership import Member, NodeRegistry
from .messaging import MessageBuilder, exchange_messages
from .participants import Participants
from .queries import QueriedNodes, new_registry
from .sampling import longest_training_first, sample

__all__ = [
    "Member",
    "MessageBuilder",
    "NodeRegistry",
    "Participants",
    "QueriedNodes",
    "exchange_messages",
    "longest_training_first",
    "new_registry",
    "sample",
    "select_shared",
]
