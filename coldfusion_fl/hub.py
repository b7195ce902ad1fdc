"""The Hugging Face Hub: whether it answers, and why a data set or a model cannot be read from it."""

import contextlib
import time
from collections.abc import Iterator
from typing import Literal

from coldfusion_fl.errors import ErrorCode, first_line

# The Hub's own words for its kinds of repositories.
Kind = Literal["dataset", "model"]
_TIMEOUT = 10.0  # seconds, as huggingface_hub's own for small requests
_TRIES = 2
_RECHECK_AFTER = 60.0  # seconds
_NOUNS = {"dataset": "data set", "model": "model"}
_LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"
# When the Hub last did not answer, and why; whether it has answered.
_last_failure: tuple[float, str] | None = None
_has_answered = False


def split_revision(reference: str) -> tuple[str, str]:
    """Split `ID@REVISION` into the id and the branch, tag or commit; without an @, the revision is empty.

    An id has no @, and a revision may have one.
    """
    name, _, revision = reference.partition("@")
    return name, revision


def unreachable_reason() -> str:
    """Why the Hub does not answer; empty: it answers, or has answered this process before.

    Without this check, huggingface_hub repeats each request five times over 23 seconds or more, and a catalogue needs
    hundreds of requests. A failed check holds for a minute.
    """
    global _last_failure, _has_answered
    if _has_answered:
        return ""
    if _last_failure and time.monotonic() - _last_failure[0] < _RECHECK_AFTER:
        return _last_failure[1]
    reason = _request()
    _has_answered, _last_failure = not reason, (time.monotonic(), reason) if reason else None
    return reason


def _request() -> str:
    from huggingface_hub import constants, get_session

    reason = ""
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(1)
        try:
            answer = get_session().head(constants.ENDPOINT, timeout=_TIMEOUT)
        # The exceptions are those of the HTTP client, which is not the same in all versions of the library.
        except Exception as failure:
            reason = first_line(failure)
            continue
        # A mirror may answer this address with "not found": it is there.
        reason = f"it answers with HTTP status {answer.status_code}" if answer.status_code >= 500 else ""
        if not reason:
            break
    return reason


def uses_cache_only() -> bool:
    """Whether nothing can be loaded from the Hub: HF_HUB_OFFLINE is set, or the Hub does not answer."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE or unreachable_reason())


@contextlib.contextmanager
def datasets_from_cache() -> Iterator[None]:
    """Have `datasets` read its cache alone, if the Hub does not answer, instead of repeating each request."""
    import datasets

    before = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = before or uses_cache_only()
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = before


def explain_failure(kind: Kind, name: str, revision: str, failure: Exception) -> tuple[str, ErrorCode | None]:
    """Find out why a repository could not be read, with one more request.

    Args:
        kind: the kind of repository.
        name: its id, as the user wrote it.
        revision: its branch, tag or commit; empty: the default branch.
        failure: what the library raised. Where the Hub lets us read the repository, its message is the reason.

    Returns:
        Sentences with the reason and what to do, and the code of the reason; None: the usual code of the caller.
    """
    # A cached repository can still lack what is asked for; then the failure says so.
    if uses_cache_only() and isinstance(failure, ConnectionError | FileNotFoundError):
        return _not_cached(kind), ErrorCode.HUB_UNREACHABLE
    reason, code = _ask_hub(kind, name, revision)
    return reason or _one_line(failure), code


def _ask_hub(kind: Kind, name: str, revision: str) -> tuple[str, ErrorCode | None]:
    """Why the Hub does not let us read a repository; the reason is empty if it does, or if it cannot be found out."""
    from huggingface_hub import constants, errors, get_hf_file_metadata, hf_hub_url

    noun, reason = _NOUNS[kind], ""
    code: ErrorCode | None = None
    try:
        url = hf_hub_url(name, "README.md", repo_type=kind, revision=revision or None)
        get_hf_file_metadata(url, timeout=_TIMEOUT)
    except errors.HFValidationError:
        reason = f"This is not the id of a {noun}: an id has the form ORGANISATION/NAME."
    except errors.RevisionNotFoundError:
        reason = f"The {noun} has no revision '{revision}'. Correct the branch, tag or commit."
    except errors.GatedRepoError:
        page = url.partition("/resolve/")[0]
        reason = f"Access to this {noun} must be granted. Ask for it at {page}, then {_LOG_IN}."
        code = ErrorCode.HUB_ACCESS
    except errors.RepositoryNotFoundError:
        reason = f"There is no {noun} of this id, or it is private. Check the id; for a private one, {_LOG_IN}."
    except errors.HfHubHTTPError as error:
        if error.response.status_code == 401:
            reason = f"{constants.ENDPOINT} rejects this machine's token. Remove it, or {_LOG_IN}."
            code = ErrorCode.HUB_ACCESS
    except Exception:  # the network has failed since, or the library has changed: the failure itself is the reason
        return "", None
    return reason, code


def _not_cached(kind: Kind) -> str:
    from huggingface_hub import constants

    reason = f"{constants.ENDPOINT} does not answer ({unreachable_reason()})"
    reason = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else reason
    noun = _NOUNS[kind]
    return (
        f"{reason}, and the {noun} is not complete in the cache in {constants.HF_HOME}. Load it once with a "
        f"connection, or use a local {noun}."
    )


def _one_line(failure: Exception) -> str:
    return (" ".join(str(failure).split()) or type(failure).__name__)[:500].rstrip(".") + "."
