import pytest

from coldfusion_fl.data.catalogue import SHIPPED, read_catalogues
from coldfusion_fl.data.metrics import METRICS
from coldfusion_fl.errors import CatalogueError

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
def test_the_shipped_catalogues_are_sound(name):
    specs = read_catalogues([name]).specs
    assert len(specs) >= 10
    assert all(spec.metric in METRICS for spec in specs.values())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[tasks.x]\nlable = "y"\ntrain = "t.csv"', "unknown setting 'lable'. Did you mean 'label'"),
        ('[tasks.x]\ntext = "t"', "give one of 'hub', 'folder' or 'train'"),
        ('[tasks.x]\nhub = "a"\nfolder = "b"', "give one of"),
        ('[tasks.x]\nfolder = "b"\ntest = "t.csv"', "leave out train and test"),
        ('[tasks.x]\ntrain = "b.csv"\nconfig = "c"', "belong to a 'hub'"),
        ('[tasks.x]\ntrain = "b.csv"\ntext = ["a", "b", "c"]', "one or two columns, but has 3"),
        (
            '[tasks.x]\ntrain = "b.csv"\nmetric = "acuracy"',
            "unknown metric 'acuracy'. Did you mean 'accuracy'",
        ),
        ('[tasks.x]\ntrain = "b.csv"\nmetric = "spearman"\nlabels = {a = "b"}', "no 'labels'"),
        ('[tasks.x]\ntrain = "b.csv"\nencoding-errors = "ignore"', "one of strict, replace"),
        ("tasks = 3", "it has no task"),
        ("[task.x]", "unknown table 'task'"),
        ("[tasks", "not valid TOML"),
    ],
)
def test_a_mistake_is_named(tmp_path, text, words):
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(CatalogueError, match=words):
        read_catalogues([str(file)])


def test_an_unknown_task_or_catalogue_is_named():
    with pytest.raises(CatalogueError, match="unknown task 'bbc_new'.*Did you mean 'bbc_news'"):
        read_catalogues(["packaged"])["bbc_new"]
    with pytest.raises(CatalogueError, match="no catalogue 'pakaged'.*shipped ones are packaged"):
        read_catalogues(["pakaged"])


def test_a_template_with_a_comma_is_one_column(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('[tasks.x]\ntrain = "b.csv"\ntext = "{a}, {b}"')
    assert read_catalogues([str(file)])["x"].text == ("{a}, {b}",)


def test_shards_make_a_task_of_each(tmp_path):
    (tmp_path / "c.toml").write_text('[tasks.mail]\nfolder = "mail"\nshards = 3\n[tasks.other]\nfolder = "other"')
    catalogue = read_catalogues([str(tmp_path / "c.toml")])
    assert list(catalogue.specs) == ["mail-1", "mail-2", "mail-3", "other"]
    assert [spec.shard for spec in catalogue.specs.values()] == [1, 2, 3, 0]


def test_a_shard_is_not_named_by_hand(tmp_path):
    (tmp_path / "c.toml").write_text('[tasks.mail]\nfolder = "mail"\nshards = 3\nshard = 2')
    with pytest.raises(CatalogueError, match="leave out 'shard'"):
        read_catalogues([str(tmp_path / "c.toml")])
