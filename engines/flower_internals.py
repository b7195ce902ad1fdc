"""All that this package uses of Flower's private modules. No other file imports them; a test checks this.

Public are the modules that Flower documents: `flwr.app`, `flwr.clientapp` (with `mod` and `typing`), `flwr.common`,
`flwr.serverapp`, `flwr.serverapp.strategy` and `flwr.simulation`. Private modules may change with every version of
Flower. So before a version is admitted in pyproject.toml, check the names in this file, and run `make test-slow`.

A name is imported from Flower at its first use, because most processes need few of them, and some load Ray or the
database of the SuperLink.
"""

# ruff: noqa: F401  (the imports for type checkers are this module's names)
from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

from coldfusion_fl.errors import ErrorCode, RunError

if TYPE_CHECKING:
    from flwr.cli.build import build_fab_from_files
    from flwr.common.constant import HEARTBEAT_PATIENCE, SYSTEM_TIME_TOLERANCE, TIMESTAMP_HEADER, TIMESTAMP_TOLERANCE
    from flwr.common.serde import fab_to_proto, metadata_from_proto
    from flwr.proto import control_pb2, fleet_pb2, message_pb2, runtime_pb2
    from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords
    from flwr.simulation.ray_transport.ray_actor import pool_size_from_resources
    from flwr.supercore.cli import flower_superexec
    from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER, FLEET_HTTP_SIGNATURE_HEADER, TASK_TOKEN_HEADER
    from flwr.supercore.control import ControlHttpClient
    from flwr.supercore.error import ApiErrorCode, FlowerError
    from flwr.supercore.fab import Fab
    from flwr.supercore.inflatable.inflatable_object import (
        add_header_to_object_body,
        get_all_nested_objects,
        get_object_head_values_from_object_content,
        get_object_tree,
        iterate_object_tree,
    )
    from flwr.supercore.inflatable.inflatable_utils import (
        inflate_object_from_contents,
        pull_objects,
        validate_object_content,
    )
    from flwr.supercore.interceptors.http.runtime_version import RuntimeVersionHttpInterceptor
    from flwr.supercore.primitives.asymmetric import bytes_to_public_key, public_key_to_bytes, verify_signature
    from flwr.supercore.run import RunNotRunningException
    from flwr.supercore.superexec import run_superexec
    from flwr.supercore.superexec.executor.subprocess_executor import SubprocessExecutor
    from flwr.supercore.superexec.executor.types import LaunchResult
    from flwr.supercore.task_identity import TaskIdentity
    from flwr.superlink import extensions
    from flwr.superlink.cli.flower_superlink import flower_superlink
    from flwr.superlink.grid import http_grid
    from flwr.superlink.servicer.fleet import fleet_handlers
    from flwr.supernode.cli import flower_supernode
    from flwr.supernode.fleet_http_client import FleetHttpClient
    from flwr.supernode.fleet_http_connection import http_request_response
    from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor
    from flwr.supernode.runtime.run_clientapp import run_clientapp

# The module of each name, in groups with the reason why no public name does.
MODULES = {
    # The simulation: the number of worker processes that fit, as Flower counts them. The checks before a run show it.
    "pool_size_from_resources": "flwr.simulation.ray_transport.ray_actor",
    # The server's process: `flower-superlink` has no option for middleware, and the access control is one.
    "flower_superlink": "flwr.superlink.cli.flower_superlink",
    "extensions": "flwr.superlink",
    # The access control checks who signed a request before its body is read. Flower checks it afterwards.
    "FLEET_HTTP_PUBLIC_KEY_HEADER": "flwr.supercore.constant",
    "FLEET_HTTP_SIGNATURE_HEADER": "flwr.supercore.constant",
    "SYSTEM_TIME_TOLERANCE": "flwr.common.constant",
    "TIMESTAMP_HEADER": "flwr.common.constant",
    "TIMESTAMP_TOLERANCE": "flwr.common.constant",
    "bytes_to_public_key": "flwr.supercore.primitives.asymmetric",
    "verify_signature": "flwr.supercore.primitives.asymmetric",
    # It receives replies in Flower's place, and hands the accepted ones to it.
    "fleet_pb2": "flwr.proto",
    "message_pb2": "flwr.proto",
    "runtime_pb2": "flwr.proto",
    "TASK_TOKEN_HEADER": "flwr.supercore.constant",
    "fleet_handlers": "flwr.superlink.servicer.fleet",
    "get_object_head_values_from_object_content": "flwr.supercore.inflatable.inflatable_object",
    "get_object_tree": "flwr.supercore.inflatable.inflatable_object",
    "metadata_from_proto": "flwr.common.serde",
    "validate_object_content": "flwr.supercore.inflatable.inflatable_utils",
    # The ServerApp in a federation: the wait for the arrays of a reply has no public limit.
    "http_grid": "flwr.superlink.grid",
    # The member's process: `flower-supernode` does not end when it fails.
    "flower_supernode": "flwr.supernode.cli",
    # The member's messages: Flower starts a new Python for each.
    "flower_superexec": "flwr.supercore.cli",
    "run_superexec": "flwr.supercore.superexec",
    "SubprocessExecutor": "flwr.supercore.superexec.executor.subprocess_executor",
    "LaunchResult": "flwr.supercore.superexec.executor.types",
    "run_clientapp": "flwr.supernode.runtime.run_clientapp",
    # The server's Control interface: `flwr supernode` and `flwr run` do not show the keys and names of nodes.
    "ControlHttpClient": "flwr.supercore.control",
    "RuntimeVersionHttpInterceptor": "flwr.supercore.interceptors.http.runtime_version",
    "control_pb2": "flwr.proto",
    # It does not say when a node was last heard of, but how long its last heartbeat counts.
    "HEARTBEAT_PATIENCE": "flwr.common.constant",
    "Fab": "flwr.supercore.fab",
    "fab_to_proto": "flwr.common.serde",
    "FlowerError": "flwr.supercore.error",
    # The app bundle of a run in a federation: `flwr build` builds one from a project folder only.
    "build_fab_from_files": "flwr.cli.build",
    # `coldfusion member check` asks the server whether it knows the member's key; Flower has no command for it.
    "FleetHttpClient": "flwr.supernode.fleet_http_client",
    "NodeAuthHttpInterceptor": "flwr.supernode.node_auth_http_interceptor",
    "ApiErrorCode": "flwr.supercore.error",
    "public_key_to_bytes": "flwr.supercore.primitives.asymmetric",
    # The benchmarks: Flower's own mean, to compare with, and the sender of messages that no Flower process sends; and
    # hostile members, which send what no SuperNode sends.
    "aggregate_arrayrecords": "flwr.serverapp.strategy.strategy_utils",
    "TaskIdentity": "flwr.supercore.task_identity",
    "RunNotRunningException": "flwr.supercore.run",
    "http_request_response": "flwr.supernode.fleet_http_connection",
    "add_header_to_object_body": "flwr.supercore.inflatable.inflatable_object",
    "get_all_nested_objects": "flwr.supercore.inflatable.inflatable_object",
    "iterate_object_tree": "flwr.supercore.inflatable.inflatable_object",
    "pull_objects": "flwr.supercore.inflatable.inflatable_utils",
    "inflate_object_from_contents": "flwr.supercore.inflatable.inflatable_utils",
}


def __getattr__(name: str) -> Any:
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return _import(MODULES[name], name)
    except (ImportError, AttributeError) as failure:
        # A library that is not installed, such as Ray, is no matter of Flower's version.
        if isinstance(failure, ModuleNotFoundError) and not (failure.name or "").startswith("flwr"):
            raise
        raise RunError(
            f"this command does not work with Flower {metadata.version('flwr')}, which has no {MODULES[name]}.{name}: "
            "install a version of Flower that docs/start/install.md names.",
            ErrorCode.FLOWER_UNSUPPORTED,
        ) from None


def _import(module: str, name: str) -> Any:
    """A name of a module: a module in it, or a class or function."""
    package = import_module(module)
    return getattr(package, name) if hasattr(package, name) else import_module(f"{module}.{name}")
