"""What the server carries from round to round, in memory and, where there is a ledger, on disk."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from coldfusion_fl.aggregation.server_optimizer import blend, moving_average
from coldfusion_fl.arrays.blocks import finite
from coldfusion_fl.arrays.encoder import Encoder, EncoderDict
from coldfusion_fl.arrays.hashing import encoder_hash
from coldfusion_fl.arrays.mismatch import find_mismatch
from coldfusion_fl.errors import ErrorCode, RunFolderError, SettingsError
from coldfusion_fl.runs.records import RoundRecord, RoundSettings

if TYPE_CHECKING:
    from coldfusion_fl.runs.ledger import Ledger


class ServerState:
    """The current base, and what led to it.

    Args:
        ledger: the opened run folder; None: nothing is written to disk.
        keep_last: the number of rounds whose arrays the ledger keeps; 0: all.
        ema: the decay of the moving average of the bases; 0: none.
        blend: the weight of the average in the result; the rest is the first base.
        settings: what the bases depend on; each record holds it.
        warn: is called with a sentence that a person should read.
        is_shared: whether an array of this name is sent to contributors and fused; None: all are.

    Attributes:
        base: the base of the last saved round, without the constants.
        constants: the arrays of the base that never change: those that are not shared, and those with infinite values,
            such as attention masks. Memory holds them once, and all rounds on disk share one file of them.
        first: the base that the run began with; empty where the result does not need it.
        optimizer_state: the state of the server optimizer.
        average: the moving average of the bases.
        records: the records of the saved rounds.
        last_saved: the last saved round; None: none yet.
    """

    def __init__(
        self,
        ledger: "Ledger | None",
        keep_last: int,
        ema: float,
        blend: float,
        settings: RoundSettings,
        warn: Callable[[str], None],
        is_shared: Callable[[str], bool] | None = None,
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
        self._warn = warn
        self._is_shared = is_shared
        self._order: list[str] = []

    @property
    def result(self) -> Encoder:
        """What the run delivers if it ends now: the base, or, with `ema`, the average blended with the first base."""
        if not self.average or not self.last_saved:
            return self.complete(self.base)
        return self.complete(blend(self.first, self.average, self._blend))

    @property
    def shared_constants(self) -> EncoderDict:
        """The constants that contributors get, and must send back as they are."""
        return self._shared(self.constants)

    def complete(self, encoder: Encoder) -> EncoderDict:
        """An encoder with the constants, in the order of the first base."""
        everything = {**encoder, **self.constants}
        return {name: everything[name] for name in self._order or everything}

    def save(self, base: Encoder, record: RoundRecord) -> None:
        """Save a round.

        Args:
            base: the base that the round ended with, with its constants.
            record: its number, and what happened in it; round 0 is the base that the run begins with.

        Raises:
            RunFolderError: the disk is full.
            SettingsError: the arrays of the first base cannot be fused.
        """
        self.base = self._read(base)
        if self.last_saved is None and self._blend < 1:
            self.first = self.base
        if self._ema:
            self.average = moving_average(self.average or self.base, self.base, self._ema)
        record.ended = time.time()
        record.settings = self._settings
        record.base_sha256 = encoder_hash(self.complete(self.base))
        if self.ledger:
            self.ledger.save_round(self.base, record, self.optimizer_state, self.average, self.constants)
            if self.keep_last:
                self.ledger.keep_last(self.keep_last)
        self.last_saved = record.round
        self.records.append(record)

    def load(self, initial: Encoder) -> int | None:
        """Load the ledger's run as it is after its last round.

        Args:
            initial: the base that the run began with.

        Returns:
            That round; None where the ledger has none.

        Raises:
            RunFolderError: its arrays have other names, shapes or dtypes; or the result needs the first base, whose
                arrays were removed, and other arrays are given.
        """
        rounds = self.ledger.rounds() if self.ledger else []
        if not self.ledger or not rounds:
            return None
        self.records = [self.ledger.record(number) for number in rounds]
        last = self.records[-1]
        # The run goes on from its own base. The arrays given only show whether this is the same model.
        given = self._read(initial)
        saved = self.ledger.load_base(last.round)
        self.base = self._variable(saved)
        if reason := find_mismatch(self.base, given):
            raise RunFolderError(
                f"{self.ledger.folder}: the run was started with a different model: {reason}. Pass the original model, "
                "or start a new run.",
                ErrorCode.RUN_CHANGED,
            )
        is_same = self.records[0].base_sha256 == encoder_hash(self.complete(given))
        self.constants = {name: saved.get(name, array) for name, array in self.constants.items()}
        if not is_same:
            self._warn(
                "The initial arrays differ from those that the run started with. They are ignored, and the run resumes "
                "from its saved base."
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

    def _read(self, base: Encoder) -> EncoderDict:
        """The arrays of a base. Those of the first come from outside, and are checked: contributions must fit them."""
        if self.last_saved is None:
            self._order = list(base)
            shared = self._shared(base)
            private = {name: array for name, array in base.items() if name not in shared}
            self.constants = private | {name: array for name, array in shared.items() if not finite(array)}
            for name, array in self.shared_constants.items():
                if np.isnan(array).any():
                    raise SettingsError(
                        f"the initial arrays cannot be fused: '{name}' has values that are not finite: NaN.",
                        ErrorCode.ARRAYS_MISMATCH,
                    )
        return self._variable(base)

    def _shared(self, encoder: Encoder) -> EncoderDict:
        """The arrays that contributors get."""
        return {name: array for name, array in encoder.items() if self._is_shared is None or self._is_shared(name)}

    def _variable(self, encoder: Encoder) -> EncoderDict:
        """The arrays that are fused: all but the constants."""
        return {name: array for name, array in encoder.items() if name not in self.constants}
