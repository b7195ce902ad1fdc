"""The state that a node keeps from round to round, and that never leaves it.

It is the head, the compression error of its contributions, its predictions with the first base, and a secret.
"""

import secrets
from pathlib import Path
from urllib.parse import quote

from flwr.app import Array, ArrayRecord, ConfigRecord, Context
from safetensors.numpy import load_file, save_file

from coldfusion_fl.arrays.encoder import Encoder, EncoderDict
from coldfusion_fl.atomic_files import atomic_write, remove

_SAVED_ROUNDS = "saved-rounds"
_SECRET = "secret"
_SECRET_BYTES = 32
# A resumed run repeats its last round, which starts from the state of the round before. So two rounds are kept.
_KEPT_ROUNDS = 2


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
        self._folder = folder

    def load(self, kind: str, before: int) -> EncoderDict:
        """The arrays of the newest round before round `before`; empty if there are none."""
        if self._folder is None:
            rounds = self._state.config_records.get(_SAVED_ROUNDS, ConfigRecord())
            if kind not in self._state or int(str(rounds.get(kind, before))) >= before:
                return {}
            return {name: array.numpy() for name, array in self._state.array_records[kind].items()}
        files = [file for number, file in self._files(kind) if number < before]
        return load_file(files[-1]) if files else {}

    def save(self, kind: str, server_round: int, arrays: Encoder) -> None:
        """Store the arrays of a round; older ones are deleted."""
        if self._folder is None:
            self._state[kind] = ArrayRecord({name: Array(array) for name, array in arrays.items()})
            rounds = self._state.config_records.get(_SAVED_ROUNDS, ConfigRecord())
            self._state[_SAVED_ROUNDS] = ConfigRecord({**rounds, kind: server_round})
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(self._folder / f"{kind}-{server_round:03d}.safetensors") as path:
            save_file(dict(arrays), path)
        for _, file in self._files(kind)[:-_KEPT_ROUNDS]:
            remove(file)

    def secret(self) -> bytes:
        """Random bytes that the node keeps for itself, 32; the same ones each time."""
        if self._folder is None:
            if _SECRET not in self._state:
                self._state[_SECRET] = ConfigRecord({_SECRET: secrets.token_bytes(_SECRET_BYTES)})
            return bytes(self._state.config_records[_SECRET][_SECRET])  # type: ignore[arg-type]
        file = self._folder / _SECRET
        if not file.exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            with atomic_write(file) as path:
                path.write_bytes(secrets.token_bytes(_SECRET_BYTES))
        return file.read_bytes()

    def _files(self, kind: str) -> list[tuple[int, Path]]:
        """The files of a kind with their rounds, the oldest first."""
        found = self._folder.glob(f"{kind}-*.safetensors") if self._folder else ()
        return sorted((int(file.stem.removeprefix(f"{kind}-")), file) for file in found)


def contributor_folder(folder: Path, name: str) -> Path:
    """The sub-folder for a name. The name comes from another machine, so it is quoted and cannot be a path."""
    return folder / quote(name, safe="").replace(".", "%2E")
