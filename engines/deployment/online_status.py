"""Which members are connected to a federation's server now, what it needs soon, and the size of its database."""

from coldfusion_fl.engines.deployment.control import control_of
from coldfusion_fl.engines.deployment.federation import Federation
from coldfusion_fl.engines.deployment.operations.expiry import expiry_warnings
from coldfusion_fl.engines.deployment.superlink.database import database_size
from coldfusion_fl.runs.status import MemberStatus, RunStatus


def add_online_status(status: RunStatus, federation: Federation) -> None:
    """Add to a run's status who is online, who has not taken part yet, warnings, and the size of the server's database.

    Args:
        status: the run's status; it is changed.
        federation: the run's federation.

    Raises:
        DeploymentError: the server does not answer.
    """
    status.warnings += expiry_warnings(federation)
    status.database_bytes = database_size(federation.database)
    with control_of(federation) as control:
        nodes = control.nodes()
    members = {member.name: member for member in status.members}
    for node in nodes:
        member = members.get(node.name)
        if member is None:
            member = MemberStatus(node.name)
            status.members.append(member)
        member.online = node.online
        if node.last_heard is not None:
            member.last_heard = max(node.last_heard, member.last_heard or 0.0)
