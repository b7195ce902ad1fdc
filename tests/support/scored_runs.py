"""Runs with scores, without any training: of toy arrays, or of a small base; importable without pytest."""

from pathlib import Path

import numpy as np

from coldfusion_fl.arrays.hashing import encoder_hash
from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.runs.records import ContributionRecord, RejectionRecord, RoundRecord, RoundSettings

MADE = RoundSettings(
    fusion="ties(density=0.2, scale=1)",
    server_optimizer="plain",
    ema=0,
    screening=["size(factor=5, least=0.01)"],
    exclude=[],
    max_rejections=3,
    seed=1,
    contributors_per_round=2,
    min_contributions=1,
    compression="float32",
    staleness_discount=0,
)


def scored(frozen, rows=200, seen=True, **more):
    return {
        "frozen": frozen,
        "metric": "accuracy",
        "head": "mean",
        "seen": seen,
        "num-examples": rows,
        **more,
    }


def make_scored_run(folder, **settings):
    """A run whose second round kept its base; `settings` replace those of its settings file."""
    table = {
        "base": "some/base",
        "seed": 1,
        "contributors-per-round": 2,
        "tasks": {"seen": ["a", "b"], "unseen": ["u"]},
        "server": {"blend": 1.0},
        "evaluate": {"shots": 100},
    }
    ledger = Ledger.create(folder, {**table, **settings})
    base = {"w": np.zeros(2, np.float32)}
    ledger.save_round(base, RoundRecord(round=0, base_sha256="f00"))
    ledger.save_scores(
        0,
        {"a": scored(50.0), "b": scored(60.0, rows=40), "u": scored(30.0, seen=False, **{"few-shot": 20.0})},
    )
    rejected = [RejectionRecord(name="b", reason="it lacks a weight")]
    fused = {"a": ContributionRecord(norm=1, share=1, reported={"seconds": 3.0})}
    times = {"began": 10.0, "trained": 15.0}
    ledger.save_round(base, RoundRecord(round=1, rejected=rejected, fused=True, contributions=fused, **times))
    ledger.save_round(base, RoundRecord(round=2, base_sha256="ba5", settings=MADE))
    ledger.save_scores(
        2,
        {"a": scored(54.0), "b": scored(50.0, rows=40), "u": scored(33.0, seen=False, **{"few-shot": 26.0})},
    )
    return ledger


def make_finished_run(folder: Path, base: Path, rounds: int = 2, seed: int = 0, *, finish: bool = True) -> Ledger:
    """A run whose rounds add normal noise to the base; without `finish`, it is still running and has no model."""
    from coldfusion_fl.model.base import open_base
    from coldfusion_fl.model.encoder import load_encoder
    from coldfusion_fl.model.export import save_model
    from coldfusion_fl.model.origin import read_origin
    from coldfusion_fl.runs.model_card import model_card

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
