"""The state of the server, as the strategy keeps it: with Flower's arrays, and only for the settings of its run."""

from collections.abc import Callable
from logging import WARNING
from typing import TYPE_CHECKING

from flwr.app import ArrayRecord
from flwr.common import log

from coldfusion_fl.arrays.encoder import Encoder, EncoderDict
from coldfusion_fl.config.comparison import changeable_keys, ensure_same
from coldfusion_fl.config.settings import Settings
from coldfusion_fl.errors import ErrorCode, RunFolderError, SettingsError
from coldfusion_fl.repository.server_state import ServerState
from coldfusion_fl.runs.records import RoundRecord, RoundSettings

from ..nodes.array_records import UnreadableArrayError, move_to_record, to_numpy

if TYPE_CHECKING:
    from coldfusion_fl.runs.ledger import Ledger


class StrategyState(ServerState):
    """The current base, and what led to it: see `ServerState`."""

    def __init__(
        self,
        ledger: "Ledger | None",
        keep_last: int,
        ema: float,
        blend: float,
        settings: RoundSettings,
        is_shared: Callable[[str], bool] | None,
    ) -> None:
        super().__init__(ledger, keep_last, ema, blend, settings, lambda line: log(WARNING, "%s", line), is_shared)
        self._constant_arrays = ArrayRecord()

    def to_record(self, encoder: Encoder) -> ArrayRecord:
        """An encoder with the constants as a record, which other records share with it: memory holds them once.

        Args:
            encoder: arrays by name, with or without the constants.
        """
        changing = {name: array for name, array in encoder.items() if name not in self.constants}
        arrays = {**move_to_record(changing), **self._constant_arrays}
        return ArrayRecord({name: arrays[name] for name in self._order})

    def save_round(self, arrays: ArrayRecord, record: RoundRecord) -> None:
        """Save a round, unless it is saved already.

        Args:
            arrays: the base that the round ended with.
            record: its number, and what happened in it; round 0 is the base that the run begins with.

        Raises:
            RunFolderError: the disk is full, or the ledger holds another run.
            SettingsError: the arrays of the first base cannot be fused.
        """
        # Inside another loop than `start`, the last hook of a round is not known: several of them call this.
        if self.last_saved is not None and self.last_saved >= record.round:
            return
        if self.last_saved is None and self.ledger and self.ledger.rounds():
            raise RunFolderError(
                f"{self.ledger.folder} holds rounds already, and Flower's own loop cannot resume a run. Call `start` "
                "of this strategy, or give it a new ledger.",
                ErrorCode.RUN_FOLDER_IN_USE,
            )
        self.save(_as_encoder(arrays), record)
        self._constant_arrays = self._constant_arrays or ArrayRecord({name: arrays[name] for name in self.constants})

    def resume(self, initial: ArrayRecord) -> int | None:
        """Continue the ledger's run after its last round.

        Returns:
            That round; None where the ledger has none.

        Raises:
            RunFolderError: its arrays have other names, shapes or dtypes, or it had other settings; or the result needs
                the first base, whose arrays were removed, and other arrays are given.
        """
        self._check_settings()
        last_round = self.load(_as_encoder(initial))
        if last_round is not None:
            self._constant_arrays = move_to_record(self.constants)
            self.constants = to_numpy(self._constant_arrays)
        return last_round

    def _check_settings(self) -> None:
        # Settings that change what a base is must be the same; others, such as screening, may be changed at a resume.
        # Rounds of checkpoints have settings of their own, which a person chose for them.
        records = self.ledger.records() if self.ledger else []
        trained = (record.settings for record in reversed(records) if record.checkpoints is None)
        last = next(trained, None)
        if self.ledger and last:
            may_change = {key.rpartition(".")[2] for key in changeable_keys(Settings)}
            old, new = (
                {key: value for key, value in settings.to_json().items() if key not in may_change}
                for settings in (last, self._settings)
            )
            ensure_same(old, new, self.ledger.folder)


def _as_encoder(arrays: ArrayRecord) -> EncoderDict:
    """The arrays of a base by name.

    Raises:
        SettingsError: they cannot be read.
    """
    try:
        return to_numpy(arrays)
    except UnreadableArrayError as wrong:
        raise SettingsError(f"the initial arrays cannot be fused: {wrong}.", ErrorCode.ARRAYS_MISMATCH) from None
