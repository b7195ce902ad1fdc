"""The state that a node keeps from round to round, and that never leaves it.

It is the head, the compression error of its contributions, its predictions with the first base, and a secret.
"""

import hashlib
import secrets
from pathlib import Path

from flwr.app import Array, ArrayRecord, ConfigRecord, Context

from coldfusion_fl.arrays.encoder import Encoder, EncoderDict
from coldfusion_fl.atomic_files import atomic_write
from coldfusion_fl.training.node_state import NodeFiles

_SAVED_ROUNDS = "saved-rounds"
_SECRET = "secret"
_SECRET_BYTES = 32


class ClientState:
    """Arrays by kind and round.

    They are stored in the node's Flower context, which is in memory, or in a folder. With a folder, a node that was
    killed continues with its state. A simulation uses a folder too, because the contexts of many nodes would fill the
    memory of one machine.

    Args:
        context: the node's context.
        folder: the node's folder for its state; None: the state is in the context.
    """

    def __init__(self, context: Context, folder: Path | None) -> None:
        self._state = context.state
        self._files = NodeFiles(folder) if folder else None

    def load(self, kind: str, before: int) -> EncoderDict:
        """The arrays of the newest round before round `before`; empty if there are none."""
        if self._files is None:
            rounds = self._state.config_records.get(_SAVED_ROUNDS, ConfigRecord())
            if kind not in self._state or int(str(rounds.get(kind, before))) >= before:
                return {}
            return {name: array.numpy() for name, array in self._state.array_records[kind].items()}
        return self._files.load(kind, before)

    def save(self, kind: str, server_round: int, arrays: Encoder) -> None:
        """Store the arrays of a round; older ones are deleted."""
        if self._files is not None:
            self._files.save(kind, server_round, arrays)
            return
        self._state[kind] = ArrayRecord({name: Array(array) for name, array in arrays.items()})
        rounds = self._state.config_records.get(_SAVED_ROUNDS, ConfigRecord())
        self._state[_SAVED_ROUNDS] = ConfigRecord({**rounds, kind: server_round})

    def secret(self) -> bytes:
        """Random bytes that the node keeps for itself, 32; the same ones each time."""
        if self._files is None:
            if _SECRET not in self._state:
                self._state[_SECRET] = ConfigRecord({_SECRET: secrets.token_bytes(_SECRET_BYTES)})
            return bytes(self._state.config_records[_SECRET][_SECRET])  # type: ignore[arg-type]
        file = self._files.folder / _SECRET
        if not file.exists():
            self._files.folder.mkdir(parents=True, exist_ok=True)
            with atomic_write(file) as path:
                path.write_bytes(secrets.token_bytes(_SECRET_BYTES))
        return file.read_bytes()

    def token(self, run: str) -> str:
        """Proof for the server of a run that this node is the one that it was: 32 hexadecimal digits.

        It is another one in each run, and does not tell the secret.

        Args:
            run: the identifier of the run.
        """
        return hashlib.blake2b(f"token of {run}".encode(), key=self.secret(), digest_size=16).hexdigest()
