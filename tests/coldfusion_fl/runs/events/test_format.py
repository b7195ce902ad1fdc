"""The kinds of events, and their keys."""

from typing import get_args

from coldfusion_fl.runs.events import Event

# The kinds with their required keys and those that have a default, as they were when the format became stable. Keys
# with a default and kinds may be added, and nothing may be removed.
FORMAT_1 = {
    "run-started": ("", "format"),
    "waiting-for-nodes": ("connected missing", ""),
    "nodes-connected": ("seen rounds", "unseen missing"),
    "round-started": ("round sampled", "missing"),
    "training-step": ("round name step steps loss", ""),
    "contribution-received": ("round name", "metrics"),
    "contribution-rejected": ("round name reason", "received"),
    "contributor-excluded": ("name reason", ""),
    "worker-replaced": ("name", ""),
    "round-fused": ("round contributions rejected", "privacy"),
    "base-kept": ("round contributions rejected reason", ""),
    "evaluation-started": ("round names", ""),
    "score-received": ("round name", "scores"),
    "score-failed": ("round name reason", ""),
    "evaluation-finished": ("round", ""),
    "server-unreachable": ("reason", ""),
    "server-reachable": ("", ""),
    "tracker-failed": ("tracker reason", ""),
    "run-lost": ("round reason", ""),
    "run-finished": ("", ""),
    "run-failed": ("reason", ""),
}


def test_the_format_has_all_its_kinds_and_keys():
    kinds = {kind.model_fields["kind"].default: kind for kind in get_args(get_args(Event)[0])}
    for name, (required, others) in FORMAT_1.items():
        fields = kinds[name].model_fields
        assert {key for key, field in fields.items() if field.is_required()} == set(required.split()), name
        assert fields.keys() >= {"kind", "time", *others.split()}, name


def test_every_kind_and_every_key_is_documented():
    for kind in get_args(get_args(Event)[0]):
        documented = kind.__doc__ or ""
        assert documented
        for key in kind.model_fields.keys() - {"kind", "time"}:
            assert f"        {key}: " in documented or f"    {key}: " in documented, (kind.__name__, key)
