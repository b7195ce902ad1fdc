"""The run files that people copy: each is valid, shows only what matters, and runs."""

import math
import subprocess
import tomllib
from pathlib import Path

import pytest
import tomli_w
from commands import COLDFUSION
from tiny_models import make_base
from web.fake_hub import FakeHub, write_data_sets

from coldfusion_fl.config.parsing import read_settings
from coldfusion_fl.config.presets import PRESETS
from coldfusion_fl.config.settings import Settings
from coldfusion_fl.config.tables import flatten, merged, to_table, unflatten
from coldfusion_fl.data.catalogue import SHIPPED, read_catalogues
from coldfusion_fl.fusion import PrivateMean
from coldfusion_fl.model.base import open_base
from coldfusion_fl.model.encoder import load_encoder
from coldfusion_fl.preflight.settings_check import check_server_table
from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.runs.records import ContributionRecord, PrivacySpent, RoundRecord
from coldfusion_fl.strategies.rounds.privacy import PrivacyAccountant

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples"
CATALOGUES = sorted(FOLDER.glob("*-catalogue.toml"))
RUNS = sorted({*FOLDER.glob("*.toml")} - {*CATALOGUES})
# Small sizes, so that a run takes seconds.
SMALL = {
    "rounds": 1,
    "finetune.epochs": 1,
    "finetune.examples": 24,
    "finetune.max-length": 16,
    "evaluate.every": 0,
    "evaluate.train-examples": 16,
    "evaluate.test-examples": 16,
    "evaluate.shots": 0,
}
all_runs = pytest.mark.parametrize("file", RUNS, ids=lambda file: file.stem)


def written(file: Path) -> dict:
    """The settings that stand in an example, by dotted key."""
    return flatten(tomllib.loads(file.read_text()))


def small_copy(file: Path, folder: Path, **changes) -> Path:
    """The example in another folder, with small sizes and other changes by dotted key."""
    table = merged(tomllib.loads(file.read_text()), unflatten(SMALL | changes))
    copy = folder / file.name
    copy.write_text(tomli_w.dumps(table))
    return copy


def complete(settings: Path, **environment) -> Ledger:
    done = subprocess.run(
        [*COLDFUSION, "run", str(settings), "--out", str(settings.with_name("run"))],
        capture_output=True,
        text=True,
        timeout=500,
        cwd=settings.parent,
        check=False,
        **environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return Ledger(settings.with_name("run"))


def names(ledger: Ledger) -> set[str]:
    return set(ledger.record(1).contributions)


def test_there_are_five():
    assert [file.stem for file in RUNS] == ["federation", "gpu", "hub", "own-tables", "privacy"]


@all_runs
def test_an_example_is_valid(file):
    settings = read_settings(file)
    check_server_table(settings, file.name)
    assert settings.tasks.seen


@all_runs
def test_a_default_that_an_example_shows_has_a_comment(file):
    """An example shows what matters. A value that holds anyway is there for its comment."""
    shown = written(file)
    preset = shown.pop("preset", None)
    required = {"base": shown.pop("base")}
    start = merged(PRESETS[preset], required) if preset else required
    usual = flatten(to_table(Settings.model_validate(start)))
    lines = {line.partition(" = ")[0]: line for line in file.read_text().splitlines()}
    bare = [key for key, value in shown.items() if usual[key] == value and "  # " not in lines[key.split(".")[-1]]]
    assert not bare


@all_runs
def test_an_example_fits_on_a_screen(file):
    lines = file.read_text().splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 120
    assert lines[0].startswith("# ")
    assert any("coldfusion run examples/" + file.name in line for line in lines)


@pytest.mark.parametrize("file", [file for file in RUNS if file.stem != "federation"], ids=lambda file: file.stem)
def test_the_catalogue_of_an_example_has_its_tasks(file):
    settings = read_settings(file)
    references = [name if name in SHIPPED else str(FOLDER / name) for name in settings.tasks.catalogue]
    catalogue = read_catalogues(references)
    for name in settings.task_names:
        assert catalogue[name].columns


def test_a_catalogue_of_the_examples_has_no_other_tasks():
    used = {name for file in RUNS for name in read_settings(file).task_names}
    for catalogue in CATALOGUES:
        assert set(read_catalogues([str(catalogue)]).specs) <= used


def test_the_page_shows_each_file():
    page = (ROOT / "docs" / "how-to" / "examples.md").read_text()
    for file in (*RUNS, *CATALOGUES):
        assert f'--8<-- "examples/{file.name}"' in page


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_own_tables(tmp_path, tiny_base):
    """The catalogue is the example's own; the files are what a user puts in place of its paths."""
    (tmp_path / "own-tables-catalogue.toml").write_text((FOLDER / "own-tables-catalogue.toml").read_text())
    data = tmp_path / "data"
    (data / "tickets").mkdir(parents=True)
    rows = range(60)
    stars = ["body,stars", *(f'"text {row}, with a ""quote""",{1 + row % 5}' for row in rows)]
    pairs = ["subject,message,queue", *(f"subject {row},message {row},queue {row % 3}" for row in rows)]
    spam = [f'{("ham", "spam")[row % 2]}\tan "unclosed quote {row}' for row in rows]
    complaints = ["product,complaint,reason", *(f"phone,complaint {row},{('late', 'broken')[row % 2]}" for row in rows)]
    for name, lines in {
        "reviews.csv": stars,
        "tickets/train.csv": pairs,
        "tickets/test.csv": [pairs[0], *(f"other {line}" for line in pairs[1:25])],
        "spam.tsv": spam,
        "complaints.csv": complaints,
    }.items():
        (data / name).write_text("\n".join(lines) + "\n")
    settings = small_copy(FOLDER / "own-tables.toml", tmp_path, base=str(tiny_base))
    ledger = complete(settings)
    assert names(ledger) == {"reviews", "tickets", "spam"}
    assert ledger.load_scores(1).keys() == {"reviews", "tickets", "spam", "complaints"}
    assert (ledger.folder / "last-base").is_dir()  # the preset's result is an average


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
@pytest.mark.parametrize("name", ["hub", "gpu"])
def test_from_the_hub(name, tmp_path):
    """A Hub on loopback has the base and the data sets, with the ids, splits and columns of the example."""
    file = FOLDER / f"{name}.toml"
    settings = read_settings(file)
    references = [ref if ref in SHIPPED else str(FOLDER / ref) for ref in settings.tasks.catalogue]
    changes = {"tasks.catalogue": references, "contributors-per-round": 2, "simulation.gpus": 0, "simulation.cpus": 1}
    catalogue = read_catalogues(references)
    with FakeHub() as hub:
        hub.datasets = write_data_sets(tmp_path / "sets", [catalogue[task] for task in settings.task_names])
        hub.models = {settings.base: make_base(tmp_path / "base", "roberta" if name == "gpu" else "bert")}
        copy = small_copy(file, tmp_path, **changes)
        ledger = complete(copy, env=hub.environment(tmp_path / "cache"))
    assert not hub.unknown
    assert len(names(ledger)) == 2
    assert names(ledger) <= set(settings.tasks.seen)
    assert ledger.load_scores(1).keys() == set(settings.task_names)
    for repository in (*hub.datasets, settings.base):
        assert any(f"GET /{kind}{repository}/resolve/" in line for line in hub.requests for kind in ("", "datasets/"))


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_privacy(tmp_path, tiny_base):
    ledger = complete(small_copy(FOLDER / "privacy.toml", tmp_path, base=str(tiny_base)))
    assert len(names(ledger)) == 8
    spent = ledger.record(1).privacy
    assert spent.rounds == 1
    assert spent.delta == 1e-5


def test_the_figures_in_the_comments_of_privacy():
    """The ε of a contributor that takes part in each round, and the length of the noise."""
    file = FOLDER / "privacy.toml"
    settings = read_settings(file)
    contributors = dict.fromkeys(settings.tasks.seen, ContributionRecord(norm=1, share=1 / 8))
    assert settings.contributors_per_round == len(contributors) == 8
    weights = sum(array.size for array in load_encoder(open_base(settings.base)).values())
    assert f"{math.sqrt(weights) / 8:.0f} for MiniLM and eight" in file.read_text()
    for noise, epsilon in ((1, "14"), (0.003, "370,000")):
        accountant = PrivacyAccountant(PrivateMean(clip=1, noise=noise))
        spent = PrivacySpent(epsilon=1, delta=1e-5, rounds=1)
        earlier = [RoundRecord(round=n, privacy=spent, contributions=contributors) for n in range(1, settings.rounds)]
        found = accountant.spent(earlier, contributors).epsilon
        assert math.isclose(found, float(epsilon.replace(",", "")), rel_tol=0.04)
        assert f"epsilon {epsilon} " in file.read_text()
