"""What the server carries from round to round, in memory and, where there is a ledger, on disk."""

import time
from logging import WARNING
from typing import TYPE_CHECKING

import numpy as np
from flwr.app import ArrayRecord
from flwr.common import log

from coldfusion_fl.aggregation.server_optimizer import blend, moving_average
from coldfusion_fl.arrays.blocks import finite
from coldfusion_fl.arrays.encoder import Encoder, EncoderDict
from coldfusion_fl.arrays.hashing import encoder_hash
from coldfusion_fl.arrays.mismatch import find_mismatch
from coldfusion_fl.config.comparison import changeable_keys, ensure_same
from coldfusion_fl.config.settings import Settings
from coldfusion_fl.errors import ErrorCode, RunFolderError, SettingsError
from coldfusion_fl.run.records import RoundRecord, RoundSettings

from ..nodes.array_records import UnreadableArrayError, to_numpy

if TYPE_CHECKING:
    from coldfusion_fl.run.ledger import Ledger


class ServerState:
    """The current base, and what led to it.

    Args:
        ledger: the opened run folder; None: nothing is written to disk.
        keep_last: the number of rounds whose arrays the ledger keeps; 0: all.
        ema: the decay of the moving average of the bases; 0: none.
        blend: the weight of the average in the result; the rest is the first base.
        settings: what the bases depend on; each record holds it, and a run cannot resume with other settings.

    Attributes:
        base: the base of the last saved round, without the constants.
        constants: arrays of the base with infinite values, such as attention masks; they never change.
        first: the base that the run began with; empty where the result does not need it.
        optimizer_state: the state of the server optimizer.
        average: the moving average of the bases.
        records: the records of the saved rounds.
        last_saved: the last saved round; None: none yet.
    """

    def __init__(
        self, ledger: "Ledger | None", keep_last: int, ema: float, blend: float, settings: RoundSettings
    ) -> None:
        self.ledger = ledger
        self.base: EncoderDict = {}
        self.constants: EncoderDict = {}
        self.first: EncoderDict = {}
        self.optimizer_state: EncoderDict = {}
        self.average: EncoderDict = {}
        self.records: list[RoundRecord] = []
        self.last_saved: int | None = None
        self.keep_last = keep_last
        self._ema = ema
        self._blend = blend
        self._settings = settings
        self._order: list[str] = []

    @property
    def result(self) -> Encoder:
        """What the run delivers if it ends now: the base, or, with `ema`, the average blended with the first base."""
        if not self.average or not self.last_saved:
            return self.complete(self.base)
        return self.complete(blend(self.first, self.average, self._blend))

    def complete(self, encoder: Encoder) -> EncoderDict:
        """An encoder with the constants, in the order of the first base."""
        everything = {**encoder, **self.constants}
        return {name: everything[name] for name in self._order or everything}

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
        self.base = self._read(arrays)
        if self.last_saved is None and self._blend < 1:
            self.first = self.base
        if self._ema:
            self.average = moving_average(self.average or self.base, self.base, self._ema)
        record.ended = time.time()
        record.settings = self._settings
        complete = self.complete(self.base)
        record.base_sha256 = encoder_hash(complete)
        if self.ledger:
            self.ledger.save_round(complete, record, self.optimizer_state, self.average)
            if self.keep_last:
                self.ledger.keep_last(self.keep_last)
        self.last_saved = record.round
        self.records.append(record)

    def resume(self, initial: ArrayRecord) -> int | None:
        """Continue the ledger's run after its last round.

        Returns:
            That round; None where the ledger has none.

        Raises:
            RunFolderError: its arrays have other names, shapes or dtypes, or it had other settings; or the result needs
                the first base, whose arrays were removed, and other arrays are given.
        """
        rounds = self.ledger.rounds() if self.ledger else []
        if not self.ledger or not rounds:
            return None
        self.records = [self.ledger.record(number) for number in rounds]
        last = self.records[-1]
        # Settings that change what a base is must be the same; others, such as screening, may be changed at a resume.
        if last.settings:
            may_change = {key.rpartition(".")[2] for key in changeable_keys(Settings)}
            old, new = (
                {key: value for key, value in settings.to_json().items() if key not in may_change}
                for settings in (last.settings, self._settings)
            )
            ensure_same(old, new, self.ledger.folder)
        # The run goes on from its own base. The arrays given only show whether this is the same model.
        given = self._read(initial)
        self.base = self._variable(self.ledger.load_base(last.round))
        if reason := find_mismatch(self.base, given):
            raise RunFolderError(
                f"{self.ledger.folder}: the run was started with a different model: {reason}. Pass the original model, "
                "or start a new run.",
                ErrorCode.RUN_CHANGED,
            )
        is_same = self.records[0].base_sha256 == encoder_hash(self.complete(given))
        if not is_same:
            log(
                WARNING,
                "The initial arrays differ from those that the run started with. They are ignored, and the run resumes "
                "from its saved base.",
            )
        if self._blend < 1:
            self.first = given if is_same else self._load_first(self.ledger)
        self.optimizer_state = self.ledger.load_optimizer_state(last.round)
        self.average = self.ledger.load_average(last.round)
        self.last_saved = last.round
        return last.round

    def base_after(self, number: int) -> Encoder | None:
        """The base that a round ended with; None: it is no longer stored."""
        if number == self.last_saved:
            return self.base
        try:
            return self._variable(self.ledger.load_base(number)) if self.ledger else None
        except RunFolderError:  # its arrays were removed to save disk space
            return None

    def _load_first(self, ledger: "Ledger") -> EncoderDict:
        try:
            return self._variable(ledger.load_base(0))
        except RunFolderError as missing:
            raise RunFolderError(
                f"{missing} The result needs the first base (blend): pass the original model.", ErrorCode.RUN_CHANGED
            ) from None

    def _read(self, arrays: ArrayRecord) -> EncoderDict:
        """The arrays of a base. Those of the first come from outside, and are checked: contributions must fit them."""
        try:
            base = to_numpy(arrays)
        except UnreadableArrayError as wrong:
            raise SettingsError(f"the initial arrays cannot be fused: {wrong}.", ErrorCode.ARRAYS_MISMATCH) from None
        if self.last_saved is None:
            self._order = list(base)
            self.constants = {name: array for name, array in base.items() if not finite(array)}
            for name, array in self.constants.items():
                if np.isnan(array).any():
                    raise SettingsError(
                        f"the initial arrays cannot be fused: '{name}' has values that are not finite: NaN.",
                        ErrorCode.ARRAYS_MISMATCH,
                    )
        return self._variable(base)

    def _variable(self, encoder: EncoderDict) -> EncoderDict:
        """The arrays that are fused: all but the constants."""
        return {name: array for name, array in encoder.items() if name not in self.constants}
