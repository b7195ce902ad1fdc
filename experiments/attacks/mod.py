"""The Flower mod that turns simulated contributors into attackers."""

import zlib
from collections.abc import Mapping

import numpy as np
from flwr.app import Array, Context, Message
from flwr.clientapp.typing import ClientAppCallable, Mod

from coldfusion_fl.config.message_keys import ROUND
from coldfusion_fl.config.settings import Settings

from .attack import Attack


def attack_mod(attacks: Mapping[str, Attack], settings: Settings) -> Mod:
    """A Flower mod that replaces what attackers send after a training.

    Args:
        attacks: by contributor; the others stay honest.
        settings: the run's settings; their seed makes the attacks repeatable.
    """

    def mod(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        reply = call_next(message, context)
        if message.metadata.message_type != "train" or reply.has_error():
            return reply
        name = settings.task_names[int(context.node_config["partition-id"])]
        if name in attacks:
            base, sent = message.content.array_records["arrays"], reply.content.array_records["arrays"]
            config = message.content.config_records["config"]
            update = {key: sent[key].numpy() - base[key].numpy() for key in sent}
            seed = [settings.seed, int(str(config[ROUND])), zlib.crc32(name.encode())]
            for key, array in attacks[name].apply(update, np.random.default_rng(seed)).items():
                sent[key] = Array((base[key].numpy() + array).astype(np.float32))
        return reply

    return mod
