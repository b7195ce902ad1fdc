"""A Hugging Face Hub on loopback, with the endpoints that `datasets` and `huggingface_hub` call.

A repository that is only read is a local folder. The endpoints that write are in `fake_hub_writes`. The formats are
those that the client library parses (huggingface_hub 2.4: hf_api.py, file_download.py, utils/_http.py). A request to
any other endpoint is answered with 501 and kept in `unknown`.
"""

import hashlib
import json
import os
import re
import threading
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import datasets
from web.fake_hub_writes import LFS_SUFFIX, Writes, commit_of, object_id

from coldfusion_fl.data.catalogue import TaskSpec

_API = re.compile(r"/api/(models|datasets)/([^/]+(?:/[^/]+)?)(?:/(revision|tree|paths-info)/([^/]+)(?:/(.*))?)?")
_FILE = re.compile(r"/(datasets/)?([^/]+(?:/[^/]+)?)/resolve/([^/]+)/(.+)")
INVALID_TOKEN = "hf_invalid"
# What the library does not need and asks for anyway: its list of user agents, and the viewer's export of a data set.
_OPTIONAL = ("/api/agent-harnesses", "/info")


class FakeHub:
    """A server for folders of repositories; `with FakeHub() as hub` starts and ends it.

    Args:
        storage: an empty folder for what is written to repositories; None: nothing can be written.

    Attributes:
        models: the folders of model repositories by id.
        datasets: the folders of data set repositories by id.
        gated: the ids whose files nobody may read without permission.
        private: the ids of the models that were created as private ones; others may still read them.
        broken: whether each request is answered with 503, as by a Hub that is down.
        failing: requests whose path has this in it are answered with 500, unless it is empty.
        revisions: the folder of each branch, tag and commit of a written model, by id and name.
        branches: the names of branches.
        tags: the tags of each model, in the order in which they were made.
        stored: the large files that were uploaded, by their SHA-256.
        commits: of each commit its model, branch, message and changed files; those that it deletes begin with a dash.
        requests: method and path of each request.
        unknown: those of them that this server does not know.
    """

    def __init__(self, storage: Path | None = None) -> None:
        self.storage = storage or Path("/nowhere")
        self.private: set[str] = set()
        self.failing = ""
        self.revisions: dict[tuple[str, str], Path] = {}
        self.branches: set[str] = set()
        self.tags: dict[str, list[str]] = {}
        self.stored: dict[str, bytes] = {}
        self.commits: list[tuple[str, str, str, list[str]]] = []
        self.models: dict[str, Path] = {}
        self.datasets: dict[str, Path] = {}
        self.gated: set[str] = set()
        self.broken = False
        self.requests: list[str] = []
        self.unknown: list[str] = []
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "FakeHub":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._server.shutdown()
        self._server.server_close()

    def set_branch(self, name: str, branch: str, folder: Path) -> None:
        """Make a folder the content of a model's branch."""
        if branch == "main":
            self.models[name] = folder
        self.branches.add(branch)
        self.revisions |= {(name, branch): folder, (name, commit_of(folder)): folder}

    def environment(self, home: Path, **more: str) -> dict[str, str]:
        """The environment of a process that reads this Hub with an empty cache in the folder `home`."""
        left_out = ("HF_", "HUGGING", "TRANSFORMERS_OFFLINE", "NO_PROXY", "no_proxy")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
        # Xet storage is a service of its own; without it, large files go over the LFS protocol.
        kept |= {"HF_HUB_DISABLE_XET": "1"}
        return kept | {"HF_ENDPOINT": self.endpoint, "HF_HOME": str(home), "NO_PROXY": "127.0.0.1"} | more


def write_data_sets(folder: Path, specs: Iterable[TaskSpec]) -> dict[str, Path]:
    """Write small data sets with the configurations, splits and columns that tasks name; their folders by id.

    Each text has a word of its class, and each class as many rows. The label is a ClassLabel, as in most sets of the
    Hub, except where a task renames the values of a label.
    """
    configs: dict[str, list[dict]] = {}
    for spec in specs:
        splits = [part for name in (spec.train or "train", spec.validation, spec.test) for part in name.split("+")]
        for split in dict.fromkeys(filter(None, splits)):
            name = f"{spec.config or 'default'}/{split}-00000-of-00001.parquet"
            (folder / spec.hub / name).parent.mkdir(parents=True, exist_ok=True)
            _rows(spec, split).to_parquet(folder / spec.hub / name)
            entry = {"config_name": spec.config or "default", "data_files": [{"split": split, "path": name}]}
            configs.setdefault(spec.hub, []).append(entry)
    for hub, entries in configs.items():
        _write_card(folder / hub, entries)
    return {hub: folder / hub for hub in configs}


def _rows(spec: TaskSpec, split: str) -> datasets.Dataset:
    classes = list(spec.labels) or ["no", "yes"]
    labels = [row % len(classes) for row in range(60 if split.startswith("train") else 24)]
    texts = [name for name in spec.columns if name != spec.label]
    rows = {name: [f"{name} of {split} {row} {classes[label]}" for row, label in enumerate(labels)] for name in texts}
    kind = datasets.Value("string") if spec.labels else datasets.ClassLabel(names=classes)
    features = datasets.Features(dict.fromkeys(texts, datasets.Value("string")) | {spec.label: kind})
    values = [classes[label] for label in labels] if spec.labels else labels
    return datasets.Dataset.from_dict(rows | {spec.label: values}, features=features)


def _write_card(folder: Path, entries: list[dict]) -> None:
    """The card, whose header lists the files of each configuration, as the Hub's documentation describes it."""
    by_name: dict[str, dict] = {}
    for entry in entries:
        known = by_name.setdefault(entry["config_name"], {"config_name": entry["config_name"], "data_files": []})
        known["data_files"] += entry["data_files"]
    # JSON is YAML too.
    (folder / "README.md").write_text(f"---\nconfigs: {json.dumps(list(by_name.values()))}\n---\n# A small copy\n")


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _tree(folder: Path, inside: str, *, recursive: bool) -> list[dict]:
    """The entries of a folder in a repository, as the endpoint `tree` lists them."""
    root = folder / inside
    return [_entry(folder, path) for path in sorted(root.rglob("*") if recursive else root.iterdir())]


def _entry(folder: Path, path: Path) -> dict:
    name = path.relative_to(folder).as_posix()
    if path.is_dir():
        return {"type": "directory", "path": name, "size": 0, "oid": hashlib.sha1(name.encode()).hexdigest()}
    size, oid = path.stat().st_size, object_id(path)
    lfs = {"lfs": {"oid": oid, "size": size, "pointerSize": 134}} if path.suffix == LFS_SUFFIX else {}
    return {"type": "file", "path": name, "size": size, "oid": oid, **lfs}


class _Handler(Writes, BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length)
        if self.hub.broken:
            self._send(503, b"the Hub is down")
        elif self.hub.failing and self.hub.failing in path:
            self._send(500, b"the Hub failed")
        elif self.headers.get("Authorization") == f"Bearer {INVALID_TOKEN}":
            self._fail(401, "", "Invalid credentials in Authorization header")
        elif path == "/":
            self._send(200, b"")
        elif self.answer_write(path):
            pass
        elif found := _FILE.fullmatch(path):
            self._send_file(*found.groups())
        elif found := _API.fullmatch(path):
            self._send_api(*found.groups())
        elif path in _OPTIONAL:
            self._send(404, b"{}")
        else:
            self.hub.unknown.append(f"{self.command} {path}")
            self._send(501, b"{}")

    do_HEAD = do_POST = do_PUT = do_GET

    def _send_file(self, kind: str | None, name: str, revision: str, file: str) -> None:
        folder = self._repository("datasets" if kind else "models", name, revision)
        if folder is None:
            return
        if name in self.hub.gated:
            # With a token that has no permission the Hub answers 403, without a token 401.
            code = 403 if self.headers.get("Authorization") else 401
            self._fail(code, "GatedRepo", f"Access to {name} is restricted.")
        elif not (folder / file).is_file():
            self._fail(404, "EntryNotFound", "Entry not found", commit_of(folder))
        else:
            content = (folder / file).read_bytes()
            self._send(200, content, {"ETag": f'"{object_id(folder / file)}"', "X-Repo-Commit": commit_of(folder)})

    def _send_api(self, kind: str, name: str, endpoint: str | None, revision: str | None, inside: str | None) -> None:
        folder = self._repository(kind, name, revision or "main")
        if folder is None:
            return
        if endpoint == "tree":
            recursive = parse_qs(urlsplit(self.path).query).get("recursive", [""])[0].lower() == "true"
            entries = _tree(folder, inside or "", recursive=recursive) if (folder / (inside or "")).is_dir() else None
            if entries is None:
                self._fail(404, "EntryNotFound", f"{inside} does not exist on {revision}")
                return
            self._send_json(entries)
        elif endpoint == "paths-info":
            paths = [folder / path for path in parse_qs(self.body.decode())["paths"]]
            self._send_json([_entry(folder, path) for path in paths if path.exists()])
        else:
            siblings = [{"rfilename": file.relative_to(folder).as_posix()} for file in _files(folder)]
            facts = {"id": name, "sha": commit_of(folder), "private": name in self.hub.private}
            self._send_json({**facts, "siblings": siblings})

    def _repository(self, kind: str, name: str, revision: str) -> Path | None:
        """The folder of a repository; without it or its revision the request is answered, and the result is None."""
        folder = getattr(self.hub, kind).get(name)
        if folder is None:
            # The Hub does not tell a stranger whether a repository is private or missing.
            self._fail(401, "RepoNotFound", "Invalid username or password.")
        elif (name, revision) in self.hub.revisions:
            return self.hub.revisions[name, revision]
        elif revision not in ("main", commit_of(folder)):
            self._fail(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return None
        return folder

    def _fail(self, status: int, code: str, message: str, commit: str = "") -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": message} | ({"X-Repo-Commit": commit} if commit else {})
        self._send(status, json.dumps({"error": message}).encode(), headers)

    def _send_json(self, answer: list | dict) -> None:
        self._send(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_) -> None:
        pass
