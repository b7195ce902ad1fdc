"""Who wrote a run folder: its list of files, signed with a person's SSH key by `ssh-keygen`.

::

    signed/SHA256SUMS       the hashes of the run's files when they were signed: see `file_list`
    signed/SHA256SUMS.sig   the signature of this file, as `ssh-keygen -Y sign -n coldfusion-run` makes it

The private key is read by `ssh-keygen` alone. It may be protected by a passphrase, be held by an agent or be on a
security token. It need not be on the machine of the run.
"""

import hashlib
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from coldfusion_fl.atomic_files import atomic_write, disk_errors, sha256
from coldfusion_fl.errors import ErrorCode, RunFolderError, SettingsError, first_line
from coldfusion_fl.runs.integrity.file_list import CHECKSUMS, FileList, format_checksums, listed_rounds, parse_checksums
from coldfusion_fl.runs.integrity.verification import find_differences

SIGNED, SIGNATURE = "signed", f"{CHECKSUMS}.sig"
NAMESPACE = "coldfusion-run"
_IDENTITY = "signer"


@dataclass(frozen=True)
class Signed:
    """What a signature covers.

    Attributes:
        rounds: the numbers of the rounds, in order.
        sha256: the hash of the signed list.
    """

    rounds: list[int]
    sha256: str


def sign(folder: Path, key: Path) -> Signed:
    """Sign the files of a run folder as they are now, in place of an earlier signature.

    Args:
        folder: the run folder; its files should be verified.
        key: the private key; or the public key, if an agent or a token has the private one.

    Raises:
        SettingsError: the key cannot be used, or there is no `ssh-keygen`.
        RunFolderError: the disk is full or cannot be written.
    """
    if not key.is_file():
        raise SettingsError(
            f"{key}: this key does not exist. Create one: ssh-keygen -t ed25519 -f {key}", ErrorCode.KEY_INVALID
        )
    checksums = FileList(folder).current()
    with disk_errors(folder), atomic_write(folder / SIGNED) as place:
        place.mkdir()
        (place / CHECKSUMS).write_text(format_checksums(dict(sorted(checksums.items()))), encoding="utf-8")
        result = _ssh_keygen("sign", "-f", str(key), "-n", NAMESPACE, str(place / CHECKSUMS))
        if result.returncode or not (place / SIGNATURE).is_file():
            raise SettingsError(
                f"{key}: ssh-keygen cannot sign with this key: {_reason(result)}. Give a private SSH key and its "
                "passphrase, or the public key of one that ssh-agent holds.",
                ErrorCode.KEY_INVALID,
            )
        return Signed(listed_rounds(checksums), sha256(place / CHECKSUMS))


def verify_signature(folder: Path, signer: Path) -> Signed:
    """Check that a person signed a run folder as it is now.

    Args:
        folder: the run folder.
        signer: the person's public SSH key, a file with one line.

    Raises:
        SettingsError: the key cannot be read, or there is no `ssh-keygen`.
        RunFolderError: the folder is not signed, by this person, or is not as it was signed; the message names what
            differs.
    """
    public = _read_public(signer)
    place = folder / SIGNED
    if not (place / SIGNATURE).is_file() or not (place / CHECKSUMS).is_file():
        raise RunFolderError(
            f"{folder}: it is not signed: {SIGNED}/{SIGNATURE} is missing. Sign it: coldfusion log {folder} --sign KEY",
            ErrorCode.SIGNATURE_INVALID,
        )
    with tempfile.TemporaryDirectory(prefix="coldfusion-") as temporary:
        allowed = Path(temporary) / "allowed_signers"
        allowed.write_text(f'{_IDENTITY} namespaces="{NAMESPACE}" {public}\n', encoding="utf-8")
        of = ("-f", str(allowed), "-I", _IDENTITY, "-n", NAMESPACE, "-s", str(place / SIGNATURE))
        content = (place / CHECKSUMS).read_bytes()  # once: what is verified is what is compared
        result = _ssh_keygen("verify", *of, given=content)
    if result.returncode:
        raise RunFolderError(
            f"{place / SIGNATURE}: this is not a signature of {place / CHECKSUMS} with the key {signer}: "
            f"{_reason(result)}. The list was changed, or somebody else signed it.",
            ErrorCode.SIGNATURE_INVALID,
        )
    signed, name = parse_checksums(content.decode("utf-8", "replace")), f"{SIGNED}/{CHECKSUMS}"
    differences = find_differences(folder, signed, name)
    new = [path for path in FileList(folder).current() if path not in signed]
    differences += [f"{folder / path}: it is not signed: it is newer than the signature, or was added." for path in new]
    if differences:
        raise RunFolderError(
            "\n".join([*differences, f"If the run went on since it was signed: coldfusion log {folder} --sign KEY"]),
            ErrorCode.SIGNATURE_INVALID,
        )
    return Signed(listed_rounds(signed), hashlib.sha256(content).hexdigest())


def _read_public(file: Path) -> str:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as failure:
        raise SettingsError(f"{file}: this key cannot be read: {failure}.", ErrorCode.KEY_INVALID) from None
    # An option in front of the key, such as cert-authority, would change who may sign.
    if len(lines) != 1 or not lines[0].startswith(("ssh-", "ecdsa-", "sk-")):
        raise SettingsError(
            f"{file}: it is not a public SSH key, as ssh-keygen writes it into a file .pub.", ErrorCode.KEY_INVALID
        )
    return lines[0]


def _ssh_keygen(action: str, *words: str, given: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    program = shutil.which("ssh-keygen")
    if program is None:
        raise SettingsError(
            "signatures need ssh-keygen of OpenSSH 8.2 or newer, which is not installed here. Install it, or use "
            "another machine.",
            ErrorCode.EXTRA_MISSING,
        )
    return subprocess.run([program, "-Y", action, *words], capture_output=True, check=False, input=given)


def _reason(result: subprocess.CompletedProcess[bytes]) -> str:
    said = (result.stderr + b"\n" + result.stdout).decode(errors="replace").strip()
    return first_line(ValueError(said)).rstrip(".") if said else f"exit code {result.returncode}"
