import pytest

from coldfusion_fl.data.catalogue import SHIPPED, read_catalogues
from coldfusion_fl.data.metrics import METRICS
from coldfusion_fl.errors import CatalogueError, ErrorCode

PAPER = (
    "20_newsgroup ag_news amazon_reviews_multi anli boolq cb cola copa dbpedia esnli financial_phrasebank imdb isear "
    "mnli mrpc multirc poem_sentiment qnli qqp rotten_tomatoes rte sst2 sst_5bins stsb trec_coarse trec_fine "
    "tweet_ev_emoji tweet_ev_emotion tweet_ev_hate "
    "tweet_ev_irony tweet_ev_offensive tweet_ev_sentiment wic wnli wsc yahoo_answers"
)


def test_paper36_has_the_papers_data_sets():
    specs = read_catalogues(["paper36"]).specs
    assert sorted(specs) == sorted(PAPER.split())
    assert all(spec.hub for spec in specs.values())
    assert specs["stsb"].is_regression
    assert specs["rte"].test == "validation"


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_catalogues_are_valid(name):
    specs = read_catalogues([name]).specs
    assert len(specs) >= 10
    assert all(spec.metric in METRICS for spec in specs.values())


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ('[tasks.x]\nlable = "y"\ntrain = "t.csv"', ["'lable'", "'label'"]),
        ('[tasks.x]\ntext = "t"', ["'hub'", "'folder'", "'train'"]),
        ('[tasks.x]\nhub = "a"\nfolder = "b"', ["'hub'", "'folder'"]),
        ('[tasks.x]\nfolder = "b"\ntest = "t.csv"', ["'folder'", "train", "test"]),
        ('[tasks.x]\ntrain = "b.csv"\nconfig = "c"', ["'config'", "'hub'"]),
        ('[tasks.x]\ntrain = "b.csv"\ntext = ["a", "b", "c"]', ["'text'", "3"]),
        (
            '[tasks.x]\ntrain = "b.csv"\nmetric = "acuracy"',
            ["'acuracy'", "'accuracy'"],
        ),
        ('[tasks.x]\ntrain = "b.csv"\nmetric = "spearman"\nlabels = {a = "b"}', ["'labels'", "'spearman'"]),
        ('[tasks.x]\ntrain = "b.csv"\nencoding-errors = "ignore"', ["strict", "replace"]),
        ('[tasks.x]\nhub = "a"\nquoting = "none"', ["'quoting'", "'hub'"]),
        ('[tasks.x]\ntrain = "b.csv"\nquoting = "no"', ["auto", "double", "backslash", "none"]),
        ('[tasks.x]\ntrain = "b.csv"\ndelimiter = ", "', ["'delimiter'", "one character", "', '"]),
        ("[tasks.x]\ntrain = \"b.csv\"\ndelimiter = '\\t'", ["'delimiter'", '"\\t"']),
        ('[tasks.x]\ntrain = "b.csv"\nencoding = "utf8x"', ["'utf8x'", "cp1252"]),
        ('[tasks.x]\ntrain = "b.csv"\nheader = ["text", "lable"]', ["'header'", "'label'", "'lable'"]),
        ('[tasks.x]\ntrain = "b.csv"\nheader = ["text", "label", "label"]', ["'header'", "twice"]),
        ("tasks = 3", ["[tasks.NAME]"]),
        ("[task.x]", ["'task'"]),
        ("[tasks", ["TOML"]),
    ],
)
def test_a_mistake_is_an_error_with_the_facts(tmp_path, text, facts):
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(CatalogueError) as error:
        read_catalogues([str(file)])
    assert all(fact in str(error.value) for fact in [str(file), *facts])


def test_an_unknown_task_or_catalogue_is_an_error():
    with pytest.raises(CatalogueError, match="'bbc_new'.*'bbc_news'") as error:
        read_catalogues(["packaged"])["bbc_new"]
    assert error.value.code == ErrorCode.TASK_UNKNOWN
    with pytest.raises(CatalogueError, match="'pakaged'.*packaged, paper36") as error:
        read_catalogues(["pakaged"])
    assert error.value.code == ErrorCode.CATALOGUE_INVALID


def test_a_template_with_a_comma_is_one_column(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('[tasks.x]\ntrain = "b.csv"\ntext = "{a}, {b}"')
    assert read_catalogues([str(file)])["x"].text == ("{a}, {b}",)


def test_each_shard_is_a_task(tmp_path):
    (tmp_path / "c.toml").write_text('[tasks.mail]\nfolder = "mail"\nshards = 3\n[tasks.other]\nfolder = "other"')
    catalogue = read_catalogues([str(tmp_path / "c.toml")])
    assert list(catalogue.specs) == ["mail-1", "mail-2", "mail-3", "other"]
    assert [spec.shard for spec in catalogue.specs.values()] == [1, 2, 3, 0]


def test_a_catalogue_cannot_set_the_shard(tmp_path):
    (tmp_path / "c.toml").write_text('[tasks.mail]\nfolder = "mail"\nshards = 3\nshard = 2')
    with pytest.raises(CatalogueError, match="'shard'"):
        read_catalogues([str(tmp_path / "c.toml")])


def test_a_catalogue_with_a_byte_order_mark(tmp_path):
    (tmp_path / "c.toml").write_text('[tasks.a]\ntrain = "t.csv"', encoding="utf-8-sig")
    assert list(read_catalogues([str(tmp_path / "c.toml")]).specs) == ["a"]
