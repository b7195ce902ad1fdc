"""What a node keeps from round to round: its head, and what the rounding of its contributions lost."""

from pathlib import Path
from urllib.parse import quote

from flwr.app import Array, ArrayRecord, ConfigRecord, Context
from safetensors.numpy import load_file, save_file

from coldfusion_fl.arrays.encoder import Encoder, EncoderDict
from coldfusion_fl.atomic_files import atomic_write, remove

_ROUNDS = "kept-in-round"
# A run that goes on does its last round again, and begins it with what the round before left.
_GENERATIONS = 2


class ClientState:
    """Arrays of some kinds, each as a round left them.

    They lie in the node's own context, which Flower keeps in memory, or in a folder: then a killed node goes on with
    them. In a simulation of many nodes the context would be the memory of one machine.

    Args:
        context: the node's.
        folder: the node's place on the disk; None: its context.
    """

    def __init__(self, context: Context, folder: Path | None) -> None:
        self._state = context.state
        self._folder = folder

    def get(self, kind: str, before: int) -> EncoderDict:
        """What the newest round before this one left; nothing where there is none."""
        if self._folder is None:
            rounds = self._state.config_records.get(_ROUNDS, ConfigRecord())
            if kind not in self._state or int(str(rounds.get(kind, before))) >= before:
                return {}
            return {name: array.numpy() for name, array in self._state.array_records[kind].items()}
        files = [file for number, file in self._files(kind) if number < before]
        return load_file(files[-1]) if files else {}

    def put(self, kind: str, number: int, arrays: Encoder) -> None:
        """Keep what a round leaves, in place of what earlier ones left."""
        if self._folder is None:
            self._state[kind] = ArrayRecord({name: Array(array) for name, array in arrays.items()})
            self._state[_ROUNDS] = ConfigRecord({**self._state.config_records.get(_ROUNDS, {}), kind: number})
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(self._folder / f"{kind}-{number:03d}.safetensors") as path:
            save_file(dict(arrays), path)
        for _, file in self._files(kind)[:-_GENERATIONS]:
            remove(file)

    def _files(self, kind: str) -> list[tuple[int, Path]]:
        found = self._folder.glob(f"{kind}-*.safetensors") if self._folder else ()
        return sorted((int(file.stem.removeprefix(f"{kind}-")), file) for file in found)


def contributor_folder(folder: Path, name: str) -> Path:
    """The place of a name in a folder, whatever the name is: it comes from outside."""
    return folder / quote(name, safe="").replace(".", "%2E")
