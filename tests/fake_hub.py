"""A Hub on this machine: what `huggingface_hub` asks for when models are pushed and loaded, over HTTP."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_of_ada"
USER = "ada"

# Put before the code of a client: it leaves with code 97 where anything tried to reach another machine.
GUARD = """
import atexit, os, socket, sys
_asked = []
def _check(host):
    name = host.decode() if isinstance(host, bytes) else host
    if name is not None and name != "localhost" and not str(name).startswith("127."):
        _asked.append(name)
        raise OSError(f"there is no network here, but something asked for {name!r}")
def _guarded(call):
    def connect(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6):
            _check(address[0])
        return call(self, address)
    return connect
for _name in ("connect", "connect_ex"):
    setattr(socket.socket, _name, _guarded(getattr(socket.socket, _name)))
_lookup = socket.getaddrinfo
def _guarded_lookup(host, *args, **kwargs):
    _check(host)
    return _lookup(host, *args, **kwargs)
socket.getaddrinfo = _guarded_lookup
def _leave():
    if _asked:
        print(f"tried to reach {sorted(set(map(str, _asked)))}", file=sys.stderr, flush=True)
        os._exit(97)
atexit.register(_leave)
"""


@dataclass
class Commit:
    """The files after it, by path; large files by the SHA-256 of their content."""

    files: dict[str, bytes]
    large: dict[str, str]
    message: str = "initial commit"

    @property
    def id(self) -> str:
        state = repr((sorted(self.files.items()), sorted(self.large.items()), self.message))
        return hashlib.sha1(state.encode()).hexdigest()


@dataclass
class Repo:
    private: bool
    branches: dict[str, list[Commit]] = field(default_factory=lambda: {"main": [Commit({}, {})]})
    requests: list[list[Commit]] = field(default_factory=list)
    """Commits of each pull request."""

    def find(self, revision: str) -> Commit | None:
        if revision in self.branches:
            return self.branches[revision][-1]
        commits = [commit for branch in self.branches.values() for commit in branch]
        return next((commit for commit in commits if commit.id == revision), None)

    def paths(self, revision: str = "main") -> set[str]:
        commit = self.branches[revision][-1]
        return {*commit.files, *commit.large}

    def text(self, path: str, revision: str = "main") -> str:
        return self.branches[revision][-1].files[path].decode()

    def json(self, path: str, revision: str = "main") -> Any:
        return json.loads(self.branches[revision][-1].files[path])


class FakeHub(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repos: dict[str, Repo] = {}
        self.large: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.blocked: set[str] = set()
        """Starts of `user/name/file` that a gateway on the way answers with 403."""
        self.unknown: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def environment(self, home: object, **others: str | None) -> dict[str, str | None]:
        """Variables of a client that talks to this Hub."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_OFFLINE": None,
            "HF_TOKEN": TOKEN,
            # Uploads by the plain protocol: the other one has a server of its own.
            "HF_HUB_DISABLE_XET": "1",
            **{name: None for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")},
            **others,
        }

    def received(self) -> Iterator[tuple[str, bytes]]:
        """Every content that was ever uploaded, with its path."""
        for repo in self.repos.values():
            for commits in (*repo.branches.values(), *repo.requests):
                for commit in commits:
                    yield from commit.files.items()
                    yield from ((path, self.large[oid]) for path, oid in commit.large.items())


@contextmanager
def running_hub() -> Iterator[FakeHub]:
    hub = FakeHub()
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeHub

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_GET

    def _answer(self) -> None:
        body = self._body()
        path = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        self.server.asked.append(f"{self.command} {'/'.join(path)}")
        match (self.command, path):
            case ("POST", ["api", "repos", "create"]):
                self._create(json.loads(body))
            case ("GET", ["api", "whoami-v2"]):
                self._send({"name": USER, "type": "user"} if self._writes() else {}, 200 if self._writes() else 401)
            case ("POST", ["api", "validate-yaml"]):
                self._send({"errors": [], "warnings": []})
            case ("PUT", ["large", oid]):
                if hashlib.sha256(body).hexdigest() != oid:
                    return self._send({"error": "wrong content"}, 400)
                self.server.large[oid] = body
                self._send({})
            case (_, ["api", "models", user, name, *rest]):
                self._repo(f"{user}/{name}", rest, body)
            case (_, [user, name, "resolve", revision, *rest]):
                self._file(f"{user}/{name}", revision, "/".join(rest))
            case ("POST", [user, name, "info", "lfs", "objects", "batch"]):
                self._batch(f"{user}/{name.removesuffix('.git')}", json.loads(body))
            case _:
                self._unknown()

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _send(self, content: Any, status: int = 200, **headers: str) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _unknown(self) -> None:
        self.server.unknown.append(f"{self.command} {self.path}")
        self._send({"error": "not found"}, 404)

    def _writes(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _create(self, wanted: dict[str, Any]) -> None:
        if not self._writes():
            return self._send({"error": "who are you?"}, 401)
        repo_id = f"{wanted.get('organization') or USER}/{wanted['name']}"
        answer = {"name": repo_id, "url": f"{self.server.url}/{repo_id}"}
        if repo_id in self.server.repos:
            return self._send({"error": "You already created this model repo", **answer}, 409)
        # One version of the client says it this way, another that way.
        private = wanted.get("visibility") == "private" or bool(wanted.get("private"))
        self.server.repos[repo_id] = Repo(private)
        self._send(answer)

    def _find(self, repo_id: str) -> Repo | None:
        repo = self.server.repos.get(repo_id)
        if repo is None or (repo.private and not self._writes()):
            self._send({"error": "Repository not found"}, 401 if repo else 404, X_Error_Code="RepoNotFound")
            return None
        return repo

    def _repo(self, repo_id: str, path: list[str], body: bytes) -> None:
        repo = self._find(repo_id)
        if repo is None:
            return
        if self.command == "POST" and not self._writes():
            return self._send({"error": "read only"}, 403)
        match (self.command, path):
            case ("POST", ["branch", branch]):
                if branch in repo.branches:
                    return self._send({"error": "exists"}, 409)
                repo.branches[branch] = list(repo.branches["main"])
                self._send({})
            case ("POST", ["preupload", _]):
                files = [
                    {
                        "path": file["path"],
                        "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                        "shouldIgnore": False,
                    }
                    for file in json.loads(body)["files"]
                ]
                self._send({"files": files})
            case ("POST", ["commit", branch]):
                self._commit(repo_id, repo, branch, [json.loads(line) for line in body.splitlines()])
            case ("GET", [] | ["revision", _]):
                commit = repo.find(path[1] if path else "main")
                if commit is None:
                    return self._no_revision()
                siblings = [{"rfilename": name} for name in (*commit.files, *commit.large)]
                info = {"id": repo_id, "sha": commit.id, "private": repo.private, "siblings": siblings, "tags": []}
                self._send(info)
            case ("GET", ["tree", _, *_]):
                self._send({"error": "no such folder"}, 404, X_Error_Code="EntryNotFound")
            case _:
                self._unknown()

    def _no_revision(self) -> None:
        self._send({"error": "Revision not found"}, 404, X_Error_Code="RevisionNotFound")

    def _batch(self, repo_id: str, wanted: dict[str, Any]) -> None:
        if self._find(repo_id) is None:
            return
        objects = []
        for item in wanted["objects"]:
            missing = item["oid"] not in self.server.large
            upload = {"upload": {"href": f"{self.server.url}/large/{item['oid']}"}}
            objects.append({**item, **({"actions": upload} if missing else {})})
        self._send({"transfer": "basic", "objects": objects})

    def _commit(self, repo_id: str, repo: Repo, branch: str, lines: list[dict[str, Any]]) -> None:
        if branch not in repo.branches:
            return self._no_revision()
        before = repo.branches[branch][-1]
        commit = Commit(dict(before.files), dict(before.large))
        for line in lines:
            value = line["value"]
            match line["key"]:
                case "header":
                    commit.message = value["summary"]
                case "file":
                    commit.files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile" if value["oid"] in self.server.large:
                    commit.large[value["path"]] = value["oid"]
                case _:
                    return self._send({"error": f"cannot do {line['key']}"}, 400)
        answer = {"commitUrl": f"{self.server.url}/{repo_id}/commit/{commit.id}", "commitOid": commit.id}
        if "create_pr=1" in urlsplit(self.path).query:
            repo.requests.append([commit])
            answer["pullRequestUrl"] = f"{self.server.url}/{repo_id}/discussions/{len(repo.requests)}"
        else:
            repo.branches[branch].append(commit)
        self._send(answer)

    def _file(self, repo_id: str, revision: str, path: str) -> None:
        repo = self._find(repo_id)
        if repo is None:
            return
        if any(f"{repo_id}/{path}".startswith(start) for start in self.server.blocked):
            return self._send({"error": "blocked"}, 403)
        commit = repo.find(revision)
        if commit is None:
            return self._no_revision()
        headers = {"X_Repo_Commit": commit.id}
        if path in commit.large:
            oid = commit.large[path]
            return self._send(self.server.large[oid], **headers, X_Linked_Etag=f'"{oid}"')
        if path in commit.files:
            content = commit.files[path]
            return self._send(content, **headers, ETag=f'"{hashlib.sha1(content).hexdigest()}"')
        self._send({"error": "Entry not found"}, 404, **headers, X_Error_Code="EntryNotFound")
