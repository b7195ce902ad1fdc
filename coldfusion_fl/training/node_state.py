"""The files that a contributor's node keeps from round to round, and that never leave it."""

from pathlib import Path
from urllib.parse import quote

from coldfusion_fl.arrays.array_files import save_arrays
from coldfusion_fl.arrays.encoder import Encoder, EncoderDict
from coldfusion_fl.atomic_files import atomic_write, remove

# The kinds of arrays that are read outside of a run: the contributor's head, and the newest base that a member scored.
HEAD, BASE = "head", "base"
# Beside the base: the table `finetune` of the run's settings.
FINETUNING = "finetune.json"
# A resumed run repeats its last round, which starts from the state of the round before. So two rounds are kept.
_KEPT_ROUNDS = 2


class NodeFiles:
    """Arrays by kind and round, in a folder.

    Args:
        folder: the folder; it is created when something is saved.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self, kind: str, before: int | None = None) -> EncoderDict:
        """The arrays of the newest round, or of the newest one before round `before`; empty if there are none."""
        from safetensors.numpy import load_file

        files = [file for number, file in self._files(kind) if before is None or number < before]
        return load_file(files[-1]) if files else {}

    def save(self, kind: str, server_round: int, arrays: Encoder, kept: int = _KEPT_ROUNDS) -> None:
        """Store the arrays of a round; of the rounds, it and the newest ones before it stay, `kept` together.

        Later rounds are of a run that was resumed at an earlier one, and are removed.

        Raises:
            OSError: the disk is full, or the file cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(self.folder / f"{kind}-{server_round:03d}.safetensors") as path:
            save_arrays(arrays, path)
        files = self._files(kind)
        staying = [file for number, file in files if number <= server_round][-kept:]
        for file in {file for _, file in files} - set(staying):
            remove(file)

    def newest_round(self, kind: str) -> int | None:
        """The newest round with arrays of a kind; None if there is none."""
        files = self._files(kind)
        return files[-1][0] if files else None

    def _files(self, kind: str) -> list[tuple[int, Path]]:
        """The files of a kind with their rounds, the oldest first."""
        found = self.folder.glob(f"{kind}-*.safetensors")
        return sorted((int(file.stem.removeprefix(f"{kind}-")), file) for file in found)


def contributor_folder(folder: Path, name: str) -> Path:
    """The sub-folder for a name. The name comes from another machine, so it is quoted and cannot be a path."""
    return folder / quote(name, safe="").replace(".", "%2E")


def simulated_folder(run_folder: Path, name: str) -> Path:
    """The folder of a simulated contributor in a run folder."""
    return contributor_folder(run_folder / "nodes", name)
