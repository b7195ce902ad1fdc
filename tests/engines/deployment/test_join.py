"""A member's own process, as it joins."""

import subprocess
import sys
import time

import psutil
import pytest

from coldfusion_fl.engines.deployment.certificates import new_member_key
from coldfusion_fl.engines.deployment.member.join import join
from coldfusion_fl.engines.deployment.member.settings import Member
from coldfusion_fl.errors import DeploymentError, ErrorCode

# In place of reading rows, which takes no time with few rows.
ENDLESS = """
import time
from coldfusion_fl.engines.deployment.member import join
join._read_task = time.sleep
join._check_task(3600)
"""


def test_a_member_killed_while_it_reads_its_rows_leaves_no_process_behind():
    process = subprocess.Popen([sys.executable, "-P", "-c", ENDLESS])
    parent, deadline = psutil.Process(process.pid), time.monotonic() + 60
    while not any("spawn_main" in " ".join(one.cmdline()) for one in parent.children()):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(2)  # its imports
    children = parent.children()
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize(("mode", "code"), [(0o644, ErrorCode.KEY_EXPOSED), (None, ErrorCode.KEY_INVALID)])
def test_a_member_does_not_join_without_a_private_key_of_its_own(tmp_path, mode, code):
    key = tmp_path / "member.key"
    if mode is not None:
        key.write_bytes(new_member_key()[0])
        key.chmod(mode)
    member = Member(name="bank", server="127.0.0.1:1", task="loans", base="none", key=str(key))
    with pytest.raises(DeploymentError) as error:
        join(member, tmp_path, print)
    assert error.value.code == code


def test_a_member_does_not_join_without_the_certificate_of_the_authority(tmp_path):
    key = tmp_path / "member.key"
    key.write_bytes(new_member_key()[0])
    key.chmod(0o600)
    authority = str(tmp_path / "ca.crt")
    member = Member(name="bank", server="127.0.0.1:1", task="loans", base="none", key=str(key), authority=authority)
    with pytest.raises(DeploymentError, match=r"ca\.crt") as error:
        join(member, tmp_path, print)
    assert error.value.code == ErrorCode.CERTIFICATE_INVALID
