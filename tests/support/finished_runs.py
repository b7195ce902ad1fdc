"""A finished run of a small base, with a model and rounds, without any training; importable without pytest."""

from pathlib import Path

import numpy as np
from scored_runs import MADE, scored

from coldfusion_fl.arrays.hashing import encoder_hash
from coldfusion_fl.model.base import open_base
from coldfusion_fl.model.encoder import load_encoder
from coldfusion_fl.model.export import save_model
from coldfusion_fl.model.origin import read_origin
from coldfusion_fl.run.ledger import Ledger
from coldfusion_fl.run.model_card import model_card
from coldfusion_fl.run.records import ContributionRecord, RoundRecord


def make_finished_run(folder: Path, base: Path, rounds: int = 2, seed: int = 0, *, finish: bool = True) -> Ledger:
    """A run whose rounds add normal noise to the base; without `finish`, it is still running and has no model."""
    opened = open_base(str(base))
    settings = {
        "base": str(base.resolve()),
        "seed": 1,
        "contributors-per-round": 2,
        "tasks": {"seen": ["a", "b"], "unseen": ["u"]},
        "server": {"blend": 1.0},
        "evaluate": {"shots": 100},
    }
    ledger, encoder, draw = Ledger.create(folder, settings), load_encoder(opened), np.random.default_rng(seed)
    for number in range(rounds + 1):
        if number:
            encoder = {name: (a + draw.normal(0, 0.01, a.shape)).astype(np.float32) for name, a in encoder.items()}
        fused = {"a": ContributionRecord(norm=1, share=1)} if number else {}
        digest = encoder_hash(encoder)
        record = RoundRecord(round=number, base_sha256=digest, settings=MADE, fused=bool(number), contributions=fused)
        ledger.save_round(encoder, record)
        if number in (0, rounds):
            ledger.save_scores(number, {"a": scored(50.0 + 4 * number, **{"frozen-difference-error": 1.0})})
    if finish:
        save_model(opened, encoder, folder / "model")
        card = model_card(ledger, encoder_hash(encoder), read_origin(opened))
        (folder / "model" / "README.md").write_text(card, encoding="utf-8")
        with ledger.track_state():
            pass
    return ledger
