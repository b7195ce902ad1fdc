"""Publishing a model or a run: all checks first, then the model, then each round with its tag."""

from collections.abc import Callable
from dataclasses import dataclass

from coldfusion_fl.publishing.model_files import CARD
from coldfusion_fl.publishing.repository import (
    MAIN,
    ROUNDS_BRANCH,
    Repository,
    RepositoryState,
    check_visibility,
    find_changed,
    find_replaced,
    find_tagged,
    tag_of,
)
from coldfusion_fl.publishing.source import ModelSource, RunSource, Source

# Called with a sentence on what was done.
Report = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What is going to be sent, after all checks.

    Attributes:
        state: what is in the repository.
        changed: the files in it that get another content.
        removed: the files in it that go.
        rounds: the rounds that are sent.
        there: the rounds that are there already.
    """

    state: RepositoryState
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    rounds: tuple[int, ...]
    there: tuple[int, ...]


def plan_push(source: Source, repository: Repository, *, private: bool = False, replace: bool = False) -> Plan:
    """Check the token, the repository and all that would be sent. Nothing is sent.

    Args:
        source: what is published.
        repository: where to.
        private: whether a new repository becomes a private one.
        replace: whether another model in it may be replaced.

    Raises:
        SettingsError: the token is missing or not valid, or the repository holds another model or other rounds.
        ModelError: a file may not be published.
        HubError: the Hub does not answer.
    """
    repository.sign_in()
    state = repository.read()
    check_visibility(repository.name, state, private=private)
    # A run that went on since it was pushed replaces its own earlier base.
    is_own = isinstance(source, RunSource) and CARD in state.files and source.made(repository.card_at(MAIN))
    with source.model(repository.name) as model:
        removed = find_replaced(repository.name, state, model, replace=replace or is_own)
        changed = find_changed(state, model)
    there: list[int] = []
    if isinstance(source, RunSource):
        there = find_tagged(repository, state, source.rounds, source.hash_of)
    rounds = tuple(number for number in source.rounds if number not in there)
    if isinstance(source, RunSource):
        source.check_rounds(rounds, repository.name)
    return Plan(state, tuple(changed), tuple(removed), rounds, tuple(there))


def push(
    source: Source,
    repository: Repository,
    plan: Plan,
    *,
    private: bool = False,
    message: str = "",
    report: Report = print,
) -> None:
    """Send what was planned. If it is interrupted, the next call goes on with what is missing.

    Args:
        source: what is published.
        repository: where to.
        plan: what `plan_push` returned.
        private: as in `plan_push`.
        message: of the commit of the model; empty: what it is.
        report: is called after each step.

    Raises:
        HubError: the upload failed.
        SettingsError: the token has no right to write.
    """
    if not plan.state.exists:
        repository.create(private=private)
    with source.model(repository.name) as model:
        commit = repository.commit(model, message or _message(source), MAIN, plan.removed)
    report(f"main: {source.description}, commit {commit[:12]}")
    if isinstance(source, ModelSource) or not plan.rounds:
        return
    repository.branch(ROUNDS_BRANCH)
    for number in plan.rounds:
        with source.round(number, repository.name) as model:
            commit = repository.commit(model, f"The base of round {number}", ROUNDS_BRANCH)
        repository.tag(tag_of(number), commit)
        report(f"{tag_of(number)}: the base of round {number}, commit {commit[:12]}")


def _message(source: Source) -> str:
    """What the model is; without its folder, which is a path of this machine."""
    return "A ColD Fusion base" if isinstance(source, RunSource) else "A model of coldfusion-fl"
