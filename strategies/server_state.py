"""What the server remembers from round to round, in memory and, where there is a ledger, on disk."""

import time
from collections.abc import Mapping
from logging import WARNING
from typing import TYPE_CHECKING, Any

from flwr.app import ArrayRecord
from flwr.common import log

from coldfusion_fl.aggregation.server_optimizer import moving_average
from coldfusion_fl.arrays.blocks import finite
from coldfusion_fl.arrays.encoder import Encoder, EncoderDict
from coldfusion_fl.arrays.hashing import encoder_hash
from coldfusion_fl.arrays.mismatch import find_mismatch
from coldfusion_fl.config.comparison import ensure_same
from coldfusion_fl.errors import RunFolderError, SettingsError

from .array_records import UnreadableArrayError, to_numpy

if TYPE_CHECKING:
    from coldfusion_fl.run.ledger import Ledger

# A person may answer what a run showed with other screening; each round's record says what it was.
_FREE = ("screening", "exclude", "max-rejections", "min-contributions")


class ServerState:
    """The base, and what led to it.

    Args:
        ledger: the opened run folder; None: nothing goes to disk.
        keep_last: the ledger keeps the arrays of so many rounds; 0: of all.
        ema: decay of the moving average of the bases; 0: none.
        settings: what the bases depend on; it stands in each round's record, and a run does not go on with others.

    Attributes:
        base: the arrays of the newest round.
        optimizer_state: what the step remembers.
        average: the moving average of the bases.
        records: of all rounds that are kept.
        kept: the newest round that is kept; None: none yet.
    """

    def __init__(self, ledger: "Ledger | None", keep_last: int, ema: float, settings: Mapping[str, Any]) -> None:
        self.ledger = ledger
        self.base: EncoderDict = {}
        self.optimizer_state: EncoderDict = {}
        self.average: EncoderDict = {}
        self.records: list[Mapping[str, Any]] = []
        self.kept: int | None = None
        self._keep_last = keep_last
        self._ema = ema
        self._settings = settings

    def keep(self, number: int, arrays: ArrayRecord, facts: Mapping[str, Any]) -> bool:
        """Make a round durable, once.

        Args:
            number: the round; 0 for the base that the run begins with.
            arrays: its base.
            facts: what there is to say of it.

        Returns:
            Whether it was new.

        Raises:
            RunFolderError: the disk is full, or the ledger holds a run that this is not.
        """
        if self.kept is not None and self.kept >= number:
            return False
        if self.kept is None and self.ledger and self.ledger.rounds():
            raise RunFolderError(
                f"{self.ledger.folder} holds rounds already, and Flower's own loop cannot go on with a run. Call this "
                "strategy's own `start`, or give it a new ledger."
            )
        self.base = self._read(arrays)
        if self._ema:
            self.average = moving_average(self.average or self.base, self.base, self._ema)
        record = {"round": number, **facts, "ended": time.time(), **self._settings}
        record["base-sha256"] = encoder_hash(self.base)
        if self.ledger:
            from coldfusion_fl.run.ledger import versions

            previous = self.ledger.record_hash(number - 1) if number else ""
            record |= {"previous-record-sha256": previous, "versions": versions()}
            self.ledger.save_round(number, self.base, record, self.optimizer_state, self.average)
            if self._keep_last:
                self.ledger.keep_last(self._keep_last)
        self.kept = number
        self.records.append(record)
        return True

    def resume(self, initial: ArrayRecord) -> int | None:
        """Take up the ledger's run where it stopped.

        Returns:
            Its last round; None where it has none yet.

        Raises:
            RunFolderError: its arrays have other names, shapes or types, or its settings were others.
        """
        rounds = self.ledger.rounds() if self.ledger else []
        if not self.ledger or not rounds:
            return None
        self.records = [self.ledger.record(number) for number in rounds]
        then = self.records[-1]
        told = [key for key in self._settings if key in then and key not in _FREE]
        ensure_same({key: then[key] for key in told}, {key: self._settings[key] for key in told}, self.ledger.folder)
        given = self._read(initial)
        last = rounds[-1]
        self.base = self.ledger.load_base(last)
        if reason := find_mismatch(self.base, given):
            raise RunFolderError(
                f"{self.ledger.folder}: its run is of another model than the one given: {reason}. Give it that model, "
                "or begin a new run."
            )
        if self.records[0].get("base-sha256") != encoder_hash(given):
            log(WARNING, "The initial arrays are not those that the run began with. It goes on from its own base.")
        self.optimizer_state = self.ledger.load_optimizer_state(last)
        self.average = self.ledger.load_average(last)
        self.kept = last
        return last

    def base_after(self, number: int) -> Encoder | None:
        """The base that a round left; None where it is not kept any more."""
        if number == self.kept:
            return self.base
        try:
            return self.ledger.load_base(number) if self.ledger else None
        except RunFolderError:  # its arrays were let go, to bound the disk
            return None

    def _read(self, arrays: ArrayRecord) -> EncoderDict:
        """The arrays of a base; those of the first come from outside, and no contribution could fit what is no base."""
        try:
            base = to_numpy(arrays)
        except UnreadableArrayError as wrong:
            raise SettingsError(f"the initial arrays cannot be fused: {wrong}.") from None
        if self.kept is None:
            for name, array in base.items():
                if not finite(array):
                    raise SettingsError(f"the initial arrays cannot be fused: '{name}' has values that are not finite.")
        return base
