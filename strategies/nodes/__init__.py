"""The nodes: which are connected, who is sampled, and the messages to them."""

from .array_records import select_shared, to_record
from .membership import NodeRegistry
from .messaging import MessageBuilder, exchange_messages
from .participants import Participants
from .sampling import longest_training_first, sample

__all__ = [
    "MessageBuilder",
    "NodeRegistry",
    "Participants",
    "exchange_messages",
    "longest_training_first",
    "sample",
    "select_shared",
    "to_record",
]
