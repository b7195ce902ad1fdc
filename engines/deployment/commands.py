"""`coldfusion federation`, `member`, `status` and `dashboard`: a federation over a network, and how a run stands."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coldfusion_fl.cli.models.classifier_output import NoTraining, Onnx, check_classifier_output
from coldfusion_fl.config.tables import split_names
from coldfusion_fl.errors import ColdFusionError, DeploymentError, ErrorCode, SettingsError, first_line
from coldfusion_fl.execution.display import plain_console
from coldfusion_fl.sanitize import sanitize

if TYPE_CHECKING:
    from coldfusion_fl.runs.status import RunStatus

federation = typer.Typer(
    help="A federation over a network: create it, run its server, add and remove members.", no_args_is_help=True
)
member = typer.Typer(help="A member of a federation: check its setup, and join.", no_args_is_help=True)
_console = plain_console()

_Folder = Annotated[Path, typer.Argument(help="The federation's folder, on the server's machine.")]
_MemberFolder = Annotated[Path, typer.Argument(help="The member's folder, with member.toml in it.")]


_RunFolder = Annotated[Path, typer.Argument(help="A run folder.")]
_RunFederation = Annotated[
    Path | None,
    typer.Option("--federation", help="The federation's folder. Also shows which members are online."),
]


def _log(line: str) -> None:
    _console.print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}", markup=False, highlight=False, soft_wrap=True)


@federation.command("init")
def init(
    folder: Annotated[Path, typer.Argument(help="The folder to create; its name becomes the federation's name.")],
    address: Annotated[str, typer.Option(help="The address by which members reach the server: HOST:PORT.")],
    members: Annotated[str, typer.Option(help="Names of members, separated by commas; more can be added later.")] = "",
    certificate: Annotated[Path | None, typer.Option(help="The server's own certificate, PEM.")] = None,
    certificate_key: Annotated[Path | None, typer.Option(help="Its private key, PEM.")] = None,
    authority: Annotated[
        Path | None, typer.Option(help="The certificate of the authority that signed it, PEM.")
    ] = None,
) -> None:
    """Create a federation: certificates, a key pair for each member, and files for systemd and Docker Compose.

    Without certificates of your own, a private authority is created, for tests and small federations. Give each folder
    in FOLDER/members to its member over an encrypted channel, because it contains a private key.
    """
    from coldfusion_fl.engines.deployment.federation import Federation, check_name, split_address
    from coldfusion_fl.engines.deployment.setup import OwnCertificates, new_federation

    host, port = split_address(address)
    created = Federation(folder.resolve(), check_name(folder.resolve().name), host, port)
    own = None
    if certificate and certificate_key and authority:
        own = OwnCertificates(certificate, certificate_key, authority)
    elif certificate or certificate_key or authority:
        raise DeploymentError(
            "certificates of your own need three options: --certificate, --certificate-key and --authority.",
            code=ErrorCode.CERTIFICATE_INVALID,
        )
    names = split_names(members)
    new_federation(created, names, own)
    _console.print(f"The federation {created.name} is in {folder}.", markup=False)
    for name in names:
        _console.print(f"  for {name}: {folder / 'members' / name}", markup=False)
    _console.print(f"Start its server: coldfusion federation serve {folder}", markup=False)


@federation.command("add")
def add(
    folder: _Folder,
    name: Annotated[str, typer.Argument(help="The new member's name.")],
    public_key: Annotated[
        Path | None,
        typer.Option(
            help="Its public key, if the member created a key pair itself: ssh-keygen -t ecdsa -b 384 -f member.key"
        ),
    ] = None,
) -> None:
    """Add a member; a running server admits it within seconds."""
    from coldfusion_fl.engines.deployment.federation import open_federation
    from coldfusion_fl.engines.deployment.setup import add_member

    opened = open_federation(folder)
    member_folder = add_member(opened, name, public_key)
    _console.print(
        f"{name} is a member of {opened.name}. "
        + (f"Give it the folder {member_folder}." if member_folder else f"It joins at {opened.address}."),
        markup=False,
    )


@federation.command("remove")
def remove(folder: _Folder, name: Annotated[str, typer.Argument(help="The member's name.")]) -> None:
    """Remove a member; a running server disconnects it within seconds."""
    from coldfusion_fl.engines.deployment.federation import open_federation
    from coldfusion_fl.engines.deployment.setup import remove_member

    opened = open_federation(folder)
    remove_member(opened, name)
    _console.print(f"Removed {name} from {opened.name}.", markup=False)


@federation.command("renew")
def renew(folder: _Folder) -> None:
    """Create a new certificate for the server before the old one expires; the server uses it after its next start."""
    from coldfusion_fl.engines.deployment.federation import open_federation
    from coldfusion_fl.engines.deployment.setup import renew_certificate

    opened = open_federation(folder)
    renew_certificate(opened)
    _console.print(f"{opened.name} has a new certificate. Restart its server.", markup=False)


@federation.command("services")
def federation_services(folder: _Folder) -> None:
    """Write the files for systemd and Docker Compose again: the server's, and those in FOLDER/members.

    Use this after an upgrade, or when the folder or the Python environment has moved.
    """
    from coldfusion_fl.engines.deployment.federation import open_federation
    from coldfusion_fl.engines.deployment.operations.services import write_services

    for file in write_services(open_federation(folder)):
        _console.print(str(file), markup=False)


@federation.command("health")
def federation_health(folder: _Folder) -> None:
    """Check that the server runs and answers; the exit code is 0 or 1. For health checks on the server's machine."""
    from coldfusion_fl.engines.deployment.federation import open_federation
    from coldfusion_fl.engines.deployment.operations.health import check_server_health

    _print_health(lambda: check_server_health(open_federation(folder)))


def _print_health(check: Callable[[], str]) -> None:
    """Print one line; exit with code 1, the only one that Docker allows, if a check fails."""
    try:
        line, code = check(), 0
    except ColdFusionError as error:
        line, code = first_line(error), 1
    print(sanitize(line))
    raise typer.Exit(code)


@federation.command("serve")
def serve_command(folder: _Folder) -> None:
    """Run the server until Ctrl-C. Only members are admitted, by their keys.

    If Flower's server ends, it is started again. Start runs in another terminal: coldfusion run CONFIG --federation
    FOLDER.
    """
    from coldfusion_fl.engines.deployment.federation import open_federation
    from coldfusion_fl.engines.deployment.superlink.serve import serve

    serve(open_federation(folder), _log)


@member.command("check")
def check(folder: _MemberFolder = Path()) -> None:
    """Check everything before joining: data, labels, base, memory, server, certificate, key, versions.

    The base is not compared with that of a run: this happens when a run asks the member.
    """
    from coldfusion_fl.engines.deployment.member.check import BASE_OF_A_RUN, check_member

    failed = 0
    checked = False
    for finding in check_member(folder):
        checked |= finding.check == "base" and finding.passed
        failed += not finding.passed
        mark = ("warn" if finding.warning else "ok") if finding.passed else "FAIL"
        _console.print(f"{mark:>4}  {finding.check}: {finding.details}", markup=False)
    if checked:
        _console.print(f"Not checked: {BASE_OF_A_RUN}", markup=False)
    if failed:
        raise typer.Exit(2)


@member.command("start")
def start(folder: _MemberFolder = Path()) -> None:
    """Join, and take part until Ctrl-C. If Flower's SuperNode ends, it is started again.

    A member that the server has removed ends with exit code 77.
    """
    from coldfusion_fl.engines.deployment.member.join import join
    from coldfusion_fl.engines.deployment.member.settings import read_member

    join(read_member(folder), folder, _log)


@member.command("export")
def member_export(
    out: Annotated[Path, typer.Option("--out", help="The folder of the classifier; it must not exist.")],
    folder: _MemberFolder = Path(),
    run: Annotated[
        str,
        typer.Option(
            "--run",
            help="The identifier of a run, or its beginning; the command lists those that this member has. Default: "
            "the run with the newest base.",
        ),
    ] = "",
    examples: Annotated[int, typer.Option("--examples", help="Rows of train to finetune on; 0: all.", min=0)] = 0,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the drawn rows, the head and the training.", min=0)] = 0,
    no_training: NoTraining = False,
    onnx: Onnx = False,
) -> None:
    """Take home a classifier of the member's own task: the newest base of a run, and the member's own head.

    A member keeps the newest base that it has evaluated, and its head if the run has keep-head. Both are finetuned
    further on the member's rows, and scored on its test split. Without a kept head, a new one is trained.
    """
    from coldfusion_fl.engines.deployment.member.export import export_classifier
    from coldfusion_fl.engines.deployment.member.settings import read_member

    check_classifier_output(out, onnx)
    export_classifier(
        read_member(folder), folder, out, run=run, examples=examples, seed=seed, trains=not no_training, onnx=onnx
    )


@member.command("services")
def member_services(folder: _MemberFolder = Path()) -> None:
    """Write the member's files for systemd and Docker Compose again, for this machine.

    Use this when the folder has come from the server's machine, and after an upgrade.
    """
    from coldfusion_fl.engines.deployment.member.settings import read_member
    from coldfusion_fl.engines.deployment.operations.services import write_member_services

    for file in write_member_services(read_member(folder).name, folder.resolve()):
        _console.print(str(file), markup=False)


@member.command("health")
def member_health(folder: _MemberFolder = Path()) -> None:
    """Check that the member has joined and can reach the server; the exit code is 0 or 1. For health checks."""
    from coldfusion_fl.engines.deployment.operations.health import check_member_health

    _print_health(lambda: check_member_health(folder))


def status(
    folder: _RunFolder,
    federation: _RunFederation = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the status as JSON.")] = False,
    as_metrics: Annotated[
        bool, typer.Option("--prometheus", help="Print the status as metrics in Prometheus' text format.")
    ] = False,
) -> None:
    """Show the status of a run: its round, the activity of each member, rejections and disk space."""
    if as_json and as_metrics:
        raise SettingsError("--json and --prometheus cannot be combined.", code=ErrorCode.SETTINGS_CONFLICT)
    if as_metrics:
        _print_metrics(folder, federation)
        return
    found = _status_of(folder, federation, needs_server=False)
    if as_json:
        print(json.dumps(found.as_json(), indent=1))
        return
    from coldfusion_fl.engines.deployment.status_table import print_status

    print_status(found, _console)


def _print_metrics(folder: Path, federation: Path | None) -> None:
    from coldfusion_fl.engines.deployment.federation import open_federation
    from coldfusion_fl.engines.deployment.operations.prometheus import run_metrics
    from coldfusion_fl.runs.ledger import Ledger
    from coldfusion_fl.runs.status import run_status

    ledger = Ledger(folder)
    print(run_metrics(run_status(ledger), ledger, open_federation(federation) if federation else None), end="")


def dashboard(
    folder: _RunFolder,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port on 127.0.0.1; 0: any free one.")] = 8750,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not open the page in a browser.")] = False,
    federation: _RunFederation = None,
) -> None:
    """Show a run in a browser while it goes on: rounds, contributors, losses, rejections and the log. Ctrl-C ends it.

    The page is served on this machine alone, and only reads the run folder. From another machine, reach it through
    ssh: ssh -L 8750:127.0.0.1:8750 SERVER.
    """
    from coldfusion_fl.cli.dashboard.live import LiveRun
    from coldfusion_fl.cli.dashboard.server import serve

    run = LiveRun(folder, lambda: _status_of(folder, federation).as_json())
    run.status()  # what is wrong with a folder shows before the page is there
    serve(run, port, open_browser=not no_browser, log=lambda line: _console.print(line, markup=False, soft_wrap=True))


def _status_of(folder: Path, federation: Path | None, *, needs_server: bool = True) -> "RunStatus":
    from coldfusion_fl.engines.deployment.federation import open_federation
    from coldfusion_fl.engines.deployment.online_status import add_online_status
    from coldfusion_fl.runs.ledger import Ledger
    from coldfusion_fl.runs.status import run_status

    found = run_status(Ledger(folder))
    if federation:
        try:
            add_online_status(found, open_federation(federation))
        except DeploymentError as error:
            # The command shows the run all the same. The page of the dashboard stays as it was, and says why.
            if needs_server:
                raise
            found.warnings.append(str(error))
    return found
