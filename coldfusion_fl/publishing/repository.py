"""A model repository of the Hugging Face Hub: what is in it, and what is sent to it."""

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import validate_repo_id

from coldfusion_fl.atomic_files import sha256
from coldfusion_fl.errors import ErrorCode, HubError, ModelError, SettingsError, first_line
from coldfusion_fl.hub import unreachable_reason
from coldfusion_fl.publishing.model_files import CARD, ModelFiles, belongs_to_model, is_weights, model_hash

MAIN = "main"
ROUNDS_BRANCH = "rounds"
_LOG_IN = "Log in with `hf auth login`, set HF_TOKEN, or give --token. The token needs the right to write"


@dataclass(frozen=True)
class RepositoryState:
    """What is in a repository.

    Attributes:
        exists: whether it exists.
        is_private: whether strangers cannot read it.
        files: the SHA-256 of each large file of its main branch by path; of a small file, the id that git gives it.
        branches: the names of its branches.
        tags: the names of its tags.
    """

    exists: bool = False
    is_private: bool = False
    files: Mapping[str, str] = field(default_factory=dict)
    branches: frozenset[str] = frozenset()
    tags: frozenset[str] = frozenset()


def check_id(repository: str) -> None:
    """Check the form of a repository's id.

    Raises:
        SettingsError: it is not OWNER/NAME.
    """
    try:
        validate_repo_id(repository)
    except HFValidationError as wrong:
        raise SettingsError(f"'{repository}' is not the id of a repository: {first_line(wrong)}") from None
    if "/" not in repository:
        raise SettingsError(
            f"'{repository}' is not the id of a repository. Write OWNER/NAME, such as acme/{repository}."
        )


class Repository:
    """A model repository, with the right to write to it.

    Args:
        name: its id.
        token: of the user; empty: the one that huggingface_hub finds.
    """

    def __init__(self, name: str, token: str = "") -> None:
        self.name = name
        self._api = HfApi(token=token or None)

    @property
    def address(self) -> str:
        """Its page."""
        return f"{constants.ENDPOINT}/{self.name}"

    def sign_in(self) -> str:
        """Check that the Hub answers, and that the token is valid; the name of its user.

        Raises:
            HubError: the Hub does not answer.
            SettingsError: there is no token, or it is not valid.
        """
        reason = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else unreachable_reason()
        if reason:
            raise HubError(
                f"{constants.ENDPOINT} cannot be reached: {reason}. Nothing was sent. `--dry-run` needs no connection.",
                ErrorCode.HUB_UNREACHABLE,
            )
        from huggingface_hub import get_token

        if not (self._api.token or get_token()):
            raise SettingsError(f"there is no token for {constants.ENDPOINT}. {_LOG_IN}.", ErrorCode.HUB_ACCESS)
        with self._errors("the token was not checked"):
            return str(self._api.whoami()["name"])

    def read(self) -> RepositoryState:
        """What is in it.

        Raises:
            SettingsError: it must not be read.
            HubError: the Hub failed.
        """
        with self._errors("nothing was sent"):
            try:
                info = self._api.model_info(self.name)
            except RepositoryNotFoundError:
                return RepositoryState()
            refs = self._api.list_repo_refs(self.name)
            tree = self._api.list_repo_tree(self.name, recursive=True)
            files = {one.path: one.lfs.sha256 if one.lfs else one.blob_id for one in tree if isinstance(one, RepoFile)}
        branches, tags = (frozenset(ref.name for ref in found) for found in (refs.branches, refs.tags))
        return RepositoryState(True, bool(info.private), files, branches, tags)

    def card_at(self, revision: str) -> str:
        """The card at a revision; empty if there is none."""
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError

        with self._errors("nothing was sent"), contextlib.suppress(EntryNotFoundError):
            file = hf_hub_download(self.name, CARD, revision=revision, token=self._api.token)
            with open(file, encoding="utf-8") as card:
                return card.read()
        return ""

    def create(self, *, private: bool) -> None:
        """Create it, unless it exists.

        Raises:
            SettingsError: the user may not.
        """
        with self._errors("nothing was sent"):
            self._api.create_repo(self.name, private=private or None, exist_ok=True)

    def commit(self, model: ModelFiles, message: str, branch: str = MAIN, removed: Sequence[str] = ()) -> str:
        """Send a model as one commit: all of it or nothing. Files that are there already are not sent again.

        Args:
            model: what is sent.
            message: of the commit.
            branch: an existing branch.
            removed: the paths of files that the commit removes.

        Returns:
            The commit.

        Raises:
            HubError: the upload failed.
            ModelError: the Hub rejects the header of the card.
        """
        operations: list[CommitOperationAdd | CommitOperationDelete] = [
            CommitOperationAdd(path, str(file)) for path, file in sorted(model.files.items())
        ]
        operations += [CommitOperationAdd(CARD, model.card.encode()), *map(CommitOperationDelete, removed)]
        with self._errors(f"the commit '{message}' was not made"):
            try:
                found = self._api.create_commit(self.name, operations, commit_message=message, revision=branch)
            except ValueError as rejected:  # of the check of the header, before anything is sent
                raise ModelError(f"{self.name}: the Hub rejects the card: {first_line(rejected)}.") from None
        return str(found.oid)

    def branch(self, name: str) -> None:
        """Create a branch, unless it exists."""
        with self._errors(f"the branch '{name}' was not made"):
            self._api.create_branch(self.name, branch=name, exist_ok=True)

    def tag(self, name: str, commit: str) -> None:
        """Give a commit a tag.

        Raises:
            HubError: the Hub failed, or the tag exists.
        """
        with self._errors(f"the tag '{name}' was not made"):
            self._api.create_tag(self.name, tag=name, revision=commit)

    @contextlib.contextmanager
    def _errors(self, left: str) -> Iterator[None]:
        """Turn errors of the library and of its HTTP client into our own."""
        try:
            yield
        except (ModelError, SettingsError, KeyboardInterrupt):
            raise
        except HfHubHTTPError as failure:
            raise self._explain(failure, left) from None
        # The library raises types of its own, of its HTTP client, and of threads in which it uploads.
        except Exception as failure:
            cause = failure.__cause__ or failure
            if isinstance(cause, HfHubHTTPError):
                raise self._explain(cause, left) from None
            raise HubError(f"{self.name}: {left}: {first_line(cause).rstrip('.')}. {_again()}") from None

    def _explain(self, failure: HfHubHTTPError, left: str) -> HubError | SettingsError:
        status = failure.response.status_code
        if status == 401:
            return SettingsError(
                f"{constants.ENDPOINT} rejects the token, or there is no repository {self.name} for it. {_LOG_IN}.",
                ErrorCode.HUB_ACCESS,
            )
        if status in (402, 403):
            return SettingsError(
                f"{self.name}: this token may not write there. Use a token with the right to write, of a member of "
                f"{self.name.partition('/')[0]}, or another repository.",
                ErrorCode.HUB_ACCESS,
            )
        return HubError(f"{self.name}: {left}, because the Hub answered with HTTP status {status}. {_again()}")


def _again() -> str:
    return "Give the same command again: what has arrived is not sent again."


# -- what the content of a repository means for a model that is to be sent ---------------------------------------------


def check_visibility(name: str, state: RepositoryState, *, private: bool) -> None:
    """Check that a model that is to be private does not go to a public repository.

    Raises:
        SettingsError: it does.
    """
    if private and state.exists and not state.is_private:
        raise SettingsError(
            f"{name} exists and is public, but --private was given. Make it private on its page, or choose another "
            "repository.",
            ErrorCode.HUB_CONFLICT,
        )


def find_replaced(name: str, state: RepositoryState, model: ModelFiles, *, replace: bool) -> list[str]:
    """The files of a repository that have to go: those of another model. Files that are no part of a model stay.

    Raises:
        SettingsError: there are some, and they may not be replaced.
    """
    weights = [path for path in state.files if is_weights(path)]
    ours = {path: sha256(file) for path, file in model.files.items() if path in model.weights}
    if not weights or all(ours.get(path) == state.files[path] for path in weights):
        return []
    if not replace:
        raise SettingsError(
            f"{name} holds another model already ({', '.join(weights[:3])}). Choose another repository, or give "
            "--replace to put this model in its place. The history of the repository keeps the other one.",
            ErrorCode.HUB_CONFLICT,
        )
    return sorted(path for path in state.files if belongs_to_model(path) and path not in (*model.files, CARD))


def find_changed(state: RepositoryState, model: ModelFiles) -> list[str]:
    """The files of a repository that get another content."""
    ours = {path: file_id(file.read_bytes()) for path, file in model.files.items() if path not in model.weights}
    ours |= {path: sha256(model.files[path]) for path in model.weights} | {CARD: file_id(model.card.encode())}
    return sorted(path for path, digest in ours.items() if state.files.get(path, digest) != digest)


def file_id(content: bytes) -> str:
    """The id that git gives to the content of a small file."""
    return hashlib.sha1(b"blob %d\0%s" % (len(content), content)).hexdigest()


def find_tagged(
    repository: Repository, state: RepositoryState, rounds: Sequence[int], hash_of: Callable[[int], str]
) -> list[int]:
    """The rounds that are in a repository already, with the same arrays.

    Args:
        repository: the repository.
        state: what is in it.
        rounds: those that are to be sent.
        hash_of: the SHA-256 of the arrays of a round.

    Raises:
        SettingsError: a tag belongs to a round of another run.
    """
    found = [number for number in rounds if tag_of(number) in state.tags]
    for number in found:
        digest = hash_of(number)
        if not digest or digest != model_hash(repository.card_at(tag_of(number))):
            raise SettingsError(
                f"{repository.name} has a tag {tag_of(number)} already, of other weights. Others may depend on it, so "
                "it is not moved. Choose another repository, or delete the tag on its page.",
                ErrorCode.HUB_CONFLICT,
            )
    return found


def tag_of(number: int) -> str:
    """The tag of a round."""
    return f"round-{number}"
