"""The model card says which encoder the model is, how it was made, and shows its scores."""

import numpy as np
import pytest
import yaml
from huggingface_hub.repocard import ModelCard
from scored_runs import MADE, make_scored_run, scored

from coldfusion_fl.model.origin import Origin
from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.runs.model_card import model_card
from coldfusion_fl.runs.records import RoundRecord

ORIGIN = Origin("some/base")
BASE = {"w": np.zeros(2, np.float32)}


@pytest.fixture
def ledger(tmp_path):
    return make_scored_run(tmp_path / "run")


def header(card):
    return yaml.safe_load(card.split("---\n")[1])


def test_the_card_has_the_scores_the_rounds_and_the_hash(ledger):
    card = model_card(ledger, "abc123", ORIGIN)
    assert "| u | unseen | 200 | 30.0 | 33.0 | +3.0 | 20.0 | 26.0 | +6.0 |" in card
    assert "in 2 rounds, of which 1 kept its base, from the base `some/base`" in card
    assert "SHA-256 of this model's arrays: abc123." in card
    assert header(card)["library_name"] == "transformers"
    assert "licence could be read" in card


def test_the_card_says_that_the_embeddings_are_those_of_the_base(ledger, tmp_path):
    words = "per round, with the word embeddings of the base,"
    frozen = make_scored_run(tmp_path / "frozen", finetune={"freeze": "embeddings"})
    assert words in " ".join(model_card(frozen, "", ORIGIN).split())
    assert words not in " ".join(model_card(ledger, "", ORIGIN).split())


def test_rounds_that_were_fused_in_another_way_than_the_last_one_are_named(ledger):
    ledger.round_folder(1).rename(ledger.folder / "away")
    other = MADE.model_copy(update={"fusion": "median"})
    ledger.save_round(BASE, RoundRecord(round=1, fused=True, settings=other))
    card = model_card(ledger, "", ORIGIN)
    assert "In round 1: fusion `median`," in card
    assert "In round 2" not in card


def test_rounds_that_all_fused_are_counted_alone(ledger):
    ledger.round_folder(2).rename(ledger.folder / "away")
    ledger.save_round(BASE, RoundRecord(round=2, fused=True, settings=MADE))
    assert "in 2 rounds from the base" in model_card(ledger, "", ORIGIN)


def test_the_licence_is_in_the_header_and_in_the_text(ledger):
    licence = {"license": "other", "license_name": "mine: 1", "license_link": "LICENSE"}
    card = model_card(ledger, "", Origin("some/base", licence=licence))
    assert licence.items() <= header(card).items()
    assert "Licence of the base: other." in card
    assert header(model_card(ledger, "", Origin("some/base", licence={"license": ["mit", "apache-2.0"]})))[
        "license"
    ] == ["mit", "apache-2.0"]


def test_the_average_is_named_and_the_last_base_has_no_scores(tmp_path):
    ledger = make_scored_run(tmp_path / "run", server={"blend": 0.6})
    ledger.save_round(BASE, RoundRecord(round=3, fused=True, settings=MADE.model_copy(update={"ema": 0.7})))
    result, last = model_card(ledger, "1", ORIGIN), model_card(ledger, "2", ORIGIN, "last-base")
    assert "the moving average of the bases (decay 0.7), with the weight 0.6, blended with the first base" in result
    assert "| a | seen | 200 | 50.0 | 54.0 |" in result
    assert "This is the last base." in last
    assert "|---|" not in last


def test_a_run_without_scores_has_no_table(tmp_path):
    facts = {"base": "x", "seed": 1, "contributors-per-round": 2, "tasks": {"unseen": []}, "evaluate": {"shots": 0}}
    ledger = Ledger.create(tmp_path / "run", facts)
    ledger.save_round(BASE, RoundRecord(round=0))
    ledger.save_round(BASE, RoundRecord(round=1, fused=True, settings=MADE))
    card = model_card(ledger, "", ORIGIN)
    assert "The run has no scores." in card
    assert "|---|" not in card
    assert "Head:" not in card


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("movie_sentiment", "movie_sentiment"),
        ("a|b", r"a\|b"),
        ("`a`", r"\`a\`"),
        ("[a](http://x)", "`[a](http://x)`"),
        ("a www.x.example b@x.example", "a `www.x.example` `b@x.example`"),
        ("[a](b)", r"\[a\](b)"),
        ("<b>a</b>", r"\<b\>a\</b\>"),
        ("_a_", r"\_a\_"),
        ("*a*", r"\*a\*"),
        ("a\\", r"a\\"),
        ("a\nb", "a b"),
    ],
)
def test_a_name_is_shown_as_it_is(ledger, name, shown):
    for number in (0, 2):
        ledger.save_scores(number, {name: scored(50.0)})
    assert f"\n| {shown} | seen | 200 | 50.0 | 50.0 | 0.0 |  |  |  |\n" in model_card(ledger, "", ORIGIN)


@pytest.mark.parametrize(("base", "shown"), [("a`b", "`` a`b ``"), ("a [b]|*", "`a [b]|*`")])
def test_the_base_is_shown_as_it_is(tmp_path, base, shown):
    assert f"from the base {shown} " in model_card(make_scored_run(tmp_path / "run"), "", Origin(base))


def test_marked_scores_are_marked_in_the_card_too(ledger):
    ledger.save_scores(2, {"a": scored(54.0, rows=150)})
    card = model_card(ledger, "", ORIGIN)
    assert "| a† | seen | 150 | 50.0 | 54.0 |" in card
    assert "of other test rows" in card


def test_the_card_has_the_intervals_and_says_what_they_show(ledger):
    error = {"frozen-difference-error": 1.0}
    ledger.save_scores(2, {"a": scored(54.0, **error), "b": scored(50.0, rows=40, **error)})
    card = model_card(ledger, "", ORIGIN)
    assert "| a | seen | 200 | 50.0 | 54.0 | +4.0 [+2.0, +6.0] |  |  |  |" in card
    assert "\n- Worse on the 2 seen tasks: −3.0 points \\[−4.4, −1.6\\] frozen.\n- Worse on b: −10.0 points" in card
    assert "not other seeds or other tasks" in card


def test_a_name_in_a_sentence_of_the_card_is_shown_as_it_is(ledger):
    for number, points in ((0, 50.0), (2, 40.0)):
        names = ("[a](http://x)", "<b>")
        ledger.save_scores(number, {name: scored(points, **{"frozen-difference-error": 1.0}) for name in names})
    card = model_card(ledger, "", ORIGIN)
    assert "`[a](http://x)` −10.0 points" in card
    assert r"\<b\> −10.0 points" in card


def test_the_header_has_the_scores_and_the_base(ledger):
    error = {"frozen-difference-error": 1.0}
    ledger.save_scores(2, {"a": scored(54.0, **error)})
    data = ModelCard(model_card(ledger, "", Origin("acme/encoder@main", "c" * 40))).data
    assert (data.base_model, data.base_model_relation) == ("acme/encoder", "finetune")
    assert (data.pipeline_tag, data.library_name) == ("feature-extraction", "transformers")
    (found,) = data.eval_results
    assert (found.metric_value, found.metric_args["test-rows"], found.metric_args["low"]) == (54.0, 200, 2.04)


def test_a_local_base_leaves_no_path(tmp_path):
    card = model_card(make_scored_run(tmp_path / "run"), "", Origin("/home/ada/secret/tiny"))
    assert "from the base `tiny`, a local folder" in card
    assert "/home" not in card
    assert "base_model" not in header(card)


def test_a_difference_that_may_be_noise_is_marked(ledger):
    ledger.save_scores(2, {"a": scored(51.0, **{"frozen-difference-error": 1.0})})
    card = model_card(ledger, "", ORIGIN)
    assert "| a | seen | 200 | 50.0 | 51.0 | +1.0 [−1.0, +3.0]‡ |" in card
    assert "‡ The interval holds 0: this difference may be noise." in card
    ledger.save_scores(2, {"a": scored(54.0, **{"frozen-difference-error": 1.0})})
    assert "‡" not in model_card(ledger, "", ORIGIN)


def test_the_card_of_a_round_has_its_own_scores(ledger):
    assert "| a | seen | 200 | 50.0 | 54.0 |" in model_card(ledger, "", ORIGIN, "round", 2)
    ledger.save_round(BASE, RoundRecord(round=3, fused=True, settings=MADE))
    card = model_card(ledger, "", ORIGIN, "round", 3)
    assert "in 3 rounds" in card
    assert "The base of this round was not evaluated." in card
    assert "the base that round 2 ended with" in model_card(ledger, "", ORIGIN, "round", 2)


def test_the_data_sets_of_the_hub_that_contributed_are_named(tmp_path):
    (tmp_path / "c.toml").write_text(
        '[tasks.a]\nhub = "org/news"\n[tasks.u]\nhub = "org/new"\n[tasks.b]\ntrain = "b"\n'
    )
    tasks = {"seen": ["a", "b"], "unseen": ["u"], "catalogue": [str(tmp_path / "c.toml")]}
    data = ModelCard(model_card(make_scored_run(tmp_path / "run", tasks=tasks), "", ORIGIN)).data
    assert data.datasets == ["org/news"]
    assert {found.dataset_name: found.dataset_type for found in data.eval_results} == {
        "a": "org/news",
        "b": "b",
        "u": "org/new",
    }
    (tmp_path / "c.toml").unlink()
    assert "datasets" not in header(model_card(Ledger(tmp_path / "run"), "", ORIGIN))
