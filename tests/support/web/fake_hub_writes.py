"""The endpoints of a Hub on loopback that `huggingface_hub` calls to write a model repository.

The formats are those that the client library sends and parses (huggingface_hub 2.4: hf_api.py, _commit_api.py, lfs.py).
Large files go over the LFS protocol; the Hub's own Xet storage is another service, which is not played here.
"""

import base64
import hashlib
import json
import re
import shutil
from pathlib import Path

import yaml

WRITER, READER = "hf_writer", "hf_reader"
USER, ORGANISATION = "ada", "acme"
LFS_SUFFIX = ".safetensors"
_REPOSITORY = r"([^/]+/[^/]+)"
_WRITE = re.compile(rf"/api/models/{_REPOSITORY}/(preupload|commit|tag|branch|refs)(?:/(.+))?")
_LFS_BATCH = re.compile(rf"/{_REPOSITORY}\.git/info/lfs/objects/batch")
_LFS_OBJECT = re.compile(r"/lfs-storage/([0-9a-f]{64})")


def commit_of(folder: Path) -> str:
    """The commit of a repository: it changes with any of its files."""
    digest = hashlib.sha1()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(file.relative_to(folder).as_posix().encode() + file.read_bytes())
    return digest.hexdigest()


def object_id(path: Path) -> str:
    """The id of a file's content: of a large file its SHA-256, of any other that of git."""
    content = path.read_bytes()
    if path.suffix == LFS_SUFFIX:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


class Writes:
    """The part of the handler that answers requests to write; the class with it has `hub`, `body` and `_send`."""

    def answer_write(self, path: str) -> bool:
        """Answer a request to write, if it is one."""
        if path == "/api/whoami-v2":
            self._who()
        elif path == "/api/validate-yaml":
            self._validate()
        elif path == "/api/repos/create":
            self._create(**json.loads(self.body))
        elif found := _LFS_BATCH.fullmatch(path):
            self._batch(found[1])
        elif found := _LFS_OBJECT.fullmatch(path):
            self.hub.stored[hashlib.sha256(self.body).hexdigest()] = self.body
            self._send(200, b"")
        elif found := _WRITE.fullmatch(path):
            name, action, revision = found.groups()
            if action == "refs" and self._repository("models", name, "main"):
                self._send_json(self._refs(name))
            elif action != "refs" and self._may_write(name) and self._repository("models", name, "main"):
                getattr(self, f"_{action}")(name, revision)
        else:
            return False
        return True

    def _token(self) -> str:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ")

    def _who(self) -> None:
        if self._token() in (WRITER, READER):
            self._send_json({"type": "user", "name": USER, "orgs": [{"type": "org", "name": ORGANISATION}]})
        else:
            self._fail(401, "", "Invalid username or password.")

    def _may_write(self, name: str) -> bool:
        allowed = self._token() == WRITER and name.partition("/")[0] in (USER, ORGANISATION)
        if not allowed:
            self._fail(403, "", "You don't have the rights to write to this repository.")
        return allowed

    def _validate(self) -> None:
        found = re.match(r"---\n(.*?)\n---\n", json.loads(self.body)["content"], re.DOTALL)
        header = yaml.safe_load(found[1]) if found else {}
        if not isinstance(header, dict) or not isinstance(header.get("tags", []), list):
            self._send(400, json.dumps({"errors": [{"message": "the metadata is not valid"}]}).encode())
        else:
            self._send_json({"errors": [], "warnings": []})

    def _create(self, name: str, organization: str | None, type: str = "model", visibility: str = "public") -> None:
        full = f"{organization or USER}/{name}"
        if not self._may_write(full):
            return
        if full in self.hub.models:
            there = {"error": "You already created this model repo", "url": f"{self.hub.endpoint}/{full}"}
            self._send(409, json.dumps(there).encode())
            return
        if visibility == "private":
            self.hub.private.add(full)
        folder = self.hub.storage / full / "empty"
        folder.mkdir(parents=True)
        (folder / ".gitattributes").write_text(f"*{LFS_SUFFIX} filter=lfs diff=lfs merge=lfs -text\n")
        self.hub.set_branch(full, "main", folder)
        self._send_json({"url": f"{self.hub.endpoint}/{full}", "name": full, "id": full})

    def _preupload(self, name: str, revision: str) -> None:
        folder = self._repository("models", name, revision)
        files = []
        for file in json.loads(self.body)["files"] if folder else []:
            there = folder / file["path"]
            mode = "lfs" if there.suffix == LFS_SUFFIX else "regular"
            oid = object_id(there) if there.is_file() else None
            files.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        if folder:
            self._send_json({"files": files})

    def _batch(self, name: str) -> None:
        if not self._may_write(name):
            return
        objects = []
        for one in json.loads(self.body)["objects"]:
            upload = {"upload": {"href": f"{self.hub.endpoint}/lfs-storage/{one['oid']}"}}
            objects.append(one if one["oid"] in self.hub.stored else {**one, "actions": upload})
        self._send_json({"transfer": "basic", "objects": objects})

    def _commit(self, name: str, revision: str) -> None:
        lines = [json.loads(line) for line in self.body.decode().splitlines()]
        folder = self.hub.storage / name / f"commit-{len(self.hub.commits)}"
        shutil.copytree(self._repository("models", name, revision), folder)
        changed = []
        for line in lines[1:]:
            value = line["value"]
            changed.append(f"-{value['path']}" if line["key"] == "deletedFile" else value["path"])
            file = folder / value["path"]
            file.parent.mkdir(parents=True, exist_ok=True)
            if line["key"] == "deletedFile":
                file.unlink()
            else:
                is_large = line["key"] == "lfsFile"
                file.write_bytes(self.hub.stored[value["oid"]] if is_large else base64.b64decode(value["content"]))
        self.hub.set_branch(name, revision, folder)
        self.hub.commits.append((name, revision, lines[0]["value"]["summary"], sorted(changed)))
        commit = commit_of(folder)
        self._send_json({"commitUrl": f"{self.hub.endpoint}/{name}/commit/{commit}", "commitOid": commit})

    def _tag(self, name: str, revision: str) -> None:
        tag, folder = json.loads(self.body)["tag"], self._repository("models", name, revision)
        if folder and (name, tag) in self.hub.revisions:
            self._send(409, json.dumps({"error": f"Tag {tag} already exists"}).encode())
        elif folder:
            self.hub.revisions[name, tag] = folder
            self.hub.tags.setdefault(name, []).append(tag)
            self._send_json({})

    def _branch(self, name: str, branch: str) -> None:
        folder = self._repository("models", name, json.loads(self.body or b"{}").get("startingPoint", "main"))
        if folder and (name, branch) in self.hub.revisions:
            self._send(409, json.dumps({"error": "Reference already exists"}).encode())
        elif folder:
            self.hub.set_branch(name, branch, folder)
            self._send_json({})

    def _refs(self, name: str) -> dict:
        tags = self.hub.tags.get(name, [])
        branches = [key[1] for key in self.hub.revisions if key[0] == name and key[1] in self.hub.branches]

        def refs(kind: str, names: list[str]) -> list[dict]:
            found = self.hub.revisions
            return [{"name": n, "ref": f"refs/{kind}/{n}", "targetCommit": commit_of(found[name, n])} for n in names]

        return {"branches": refs("heads", branches), "converts": [], "tags": refs("tags", tags)}
