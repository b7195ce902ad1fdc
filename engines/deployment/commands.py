"""`coldfusion federation` and `coldfusion member`: a federation over a network."""

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from coldfusion_fl.cli.display import plain_console
from coldfusion_fl.config.tables import split_names
from coldfusion_fl.errors import DeploymentError

federation = typer.Typer(
    help="A federation over a network: set it up, run its server, admit members.", no_args_is_help=True
)
member = typer.Typer(help="A member of a federation: try everything, and join.", no_args_is_help=True)
_console = plain_console()

_Folder = Annotated[Path, typer.Argument(help="The federation's folder, on the server's machine.")]
_MemberFolder = Annotated[Path, typer.Argument(help="The member's folder, with its member.toml.")]


def _log(line: str) -> None:
    _console.print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}", markup=False, highlight=False)


@federation.command("init")
def init(
    folder: Annotated[Path, typer.Argument(help="The folder to make; its name is the federation's.")],
    address: Annotated[str, typer.Option(help="Where members find the server: HOST:PORT.")],
    members: Annotated[str, typer.Option(help="Names of members, with commas between; more can be added later.")] = "",
    certificate: Annotated[Path | None, typer.Option(help="The server's own certificate, PEM.")] = None,
    certificate_key: Annotated[Path | None, typer.Option(help="Its private key, PEM.")] = None,
    authority: Annotated[
        Path | None, typer.Option(help="The certificate of the authority that signed it, PEM.")
    ] = None,
) -> None:
    """Make what a federation needs: certificates, a key pair for each member, start scripts.

    Without certificates of your own a private authority is made, good for tests and small federations. Each folder in
    FOLDER/members goes to its member, by a way that nobody else can read along: a private key is in it.
    """
    from coldfusion_fl.engines.deployment.federation import Federation, check_name, split_address
    from coldfusion_fl.engines.deployment.setup import OwnCertificates, new_federation

    host, port = split_address(address)
    made = Federation(folder.resolve(), check_name(folder.resolve().name), host, port)
    own = None
    if certificate and certificate_key and authority:
        own = OwnCertificates(certificate, certificate_key, authority)
    elif certificate or certificate_key or authority:
        raise DeploymentError("own certificates are three files: --certificate, --certificate-key and --authority.")
    names = split_names(members)
    new_federation(made, names, own)
    _console.print(f"The federation {made.name} is in {folder}.", markup=False)
    for name in names:
        _console.print(f"  to {name}: {folder / 'members' / name}", markup=False)
    _console.print(f"Start its server: coldfusion federation serve {folder}", markup=False)


@federation.command("add")
def add(
    folder: _Folder,
    name: Annotated[str, typer.Argument(help="The new member's name.")],
    public_key: Annotated[
        Path | None,
        typer.Option(help="Its public key, where it made a key pair itself: ssh-keygen -t ecdsa -b 384 -f member.key"),
    ] = None,
) -> None:
    """Admit a member; a running server lets it in within seconds."""
    from coldfusion_fl.engines.deployment.federation import open_federation
    from coldfusion_fl.engines.deployment.setup import add_member

    opened = open_federation(folder)
    made = add_member(opened, name, public_key)
    _console.print(
        f"{name} is a member of {opened.name}. " + (f"Hand it {made}." if made else f"It joins at {opened.address}."),
        markup=False,
    )


@federation.command("remove")
def remove(folder: _Folder, name: Annotated[str, typer.Argument(help="The member's name.")]) -> None:
    """Let a member in no more; a running server shuts it out within seconds."""
    from coldfusion_fl.engines.deployment.federation import open_federation
    from coldfusion_fl.engines.deployment.setup import remove_member

    opened = open_federation(folder)
    remove_member(opened, name)
    _console.print(f"{name} is no member of {opened.name} any more.", markup=False)


@federation.command("renew")
def renew(folder: _Folder) -> None:
    """Make the server a new certificate before its old one expires; it is taken when the server starts again."""
    from coldfusion_fl.engines.deployment.federation import open_federation
    from coldfusion_fl.engines.deployment.setup import renew_certificate

    opened = open_federation(folder)
    renew_certificate(opened)
    _console.print(f"{opened.name} has a new certificate. Start its server again.", markup=False)


@federation.command("serve")
def serve_command(folder: _Folder) -> None:
    """Run the server until Ctrl-C: members are let in by their keys, nobody else is.

    Starts again what ends. Runs are started beside it: coldfusion run CONFIG --federation FOLDER.
    """
    from coldfusion_fl.engines.deployment.federation import open_federation
    from coldfusion_fl.engines.deployment.superlink.serve import serve

    serve(open_federation(folder), _log)


@member.command("check")
def check(folder: _MemberFolder = Path()) -> None:
    """Try everything before joining: data, labels, base, memory, server, certificate, key, versions."""
    from coldfusion_fl.engines.deployment.member.check import check_member

    failed = 0
    for finding in check_member(folder):
        failed += not finding.is_well
        _console.print(f"{'ok' if finding.is_well else 'NO':>4}  {finding.what}: {finding.told}", markup=False)
    if failed:
        raise typer.Exit(2)


@member.command("start")
def start(folder: _MemberFolder = Path()) -> None:
    """Join, and take part until Ctrl-C. Starts again what ends."""
    from coldfusion_fl.engines.deployment.member.join import join
    from coldfusion_fl.engines.deployment.member.settings import read_member

    join(read_member(folder), folder, _log)


def status(
    folder: Annotated[Path, typer.Argument(help="A run folder.")],
    federation: Annotated[
        Path | None,
        typer.Option("--federation", help="The folder of the federation that runs it: says who is connected now."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Show how a run stands: its round, who is in it and what each does, who was rejected, what is on the disk."""
    from coldfusion_fl.engines.deployment.online_status import add_online_status
    from coldfusion_fl.run.ledger import Ledger
    from coldfusion_fl.run.status import run_status

    found = run_status(Ledger(folder))
    if federation:
        add_online_status(found, federation)
    if as_json:
        print(json.dumps(found.as_json(), indent=1))
        return
    from coldfusion_fl.engines.deployment.status_table import print_status

    print_status(found, _console)
