"""A small Hub for the tests: the HTTP server that `huggingface_hub` talks to, with nothing changed in the client.

    with HubStandIn(tokens={"good": "me"}) as hub:
        subprocess.run([...], env={**os.environ, **hub.environment("good")})

It makes repositories, takes files plainly and by Git LFS (batch, upload, verify), commits, and serves what was
committed. It checks what the real one checks where a client could be wrong: who asks, hashes and sizes, commits of
objects that never arrived. `hub.uploads` lists the objects that were stored, in order; `hub.before_storing` is called
when half of an object has come; `hub.lock` is a condition that is told of each stored object.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

BY_LFS = (".safetensors", ".parquet", ".png", ".pdf", ".mid")
KINDS = {"models": "model", "datasets": "dataset", "spaces": "space"}


@dataclass
class StoredFile:
    content: bytes
    by_lfs: bool

    @property
    def oid(self) -> str:
        """SHA-256 of an LFS object; else what Git calls the file."""
        if self.by_lfs:
            return hashlib.sha256(self.content).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(self.content) + self.content).hexdigest()


@dataclass
class Repository:
    kind: str
    name: str
    private: bool
    settings: dict[str, Any]
    commits: list[tuple[str, dict[str, StoredFile]]] = field(default_factory=list)

    @property
    def head(self) -> str:
        return self.commits[-1][0] if self.commits else hashlib.sha1(self.name.encode()).hexdigest()

    def files(self, revision: str = "main") -> dict[str, StoredFile] | None:
        if revision in ("main", self.head):
            return self.commits[-1][1] if self.commits else {}
        return dict(self.commits).get(revision)

    def commit(self, files: dict[str, StoredFile]) -> str:
        named = repr((len(self.commits), sorted((path, file.oid) for path, file in files.items())))
        self.commits.append((hashlib.sha1(named.encode()).hexdigest(), files))
        return self.head


class Refusal(Exception):
    """An answer that is no 2xx."""

    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class HubStandIn:
    """The server; a context manager that runs it in a thread.

    Args:
        tokens: Access token to the name of whom it belongs to; each may write under that name only.
    """

    def __init__(self, tokens: dict[str, str]) -> None:
        self.tokens = tokens
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.uploads: list[str] = []
        self.requests: list[str] = []
        self.before_storing: Callable[[str], None] = lambda oid: None
        self.lock = threading.Condition()
        handler = type("Handler", (_Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self.server.server_address[1]}"

    def environment(self, token: str | None) -> dict[str, str]:
        """What a client's process needs; Xet, which has a server of its own, is left out."""
        found = {"HF_ENDPOINT": self.endpoint, "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}
        found |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "0", "NO_PROXY": "127.0.0.1"}
        return found | ({} if token is None else {"HF_TOKEN": token})

    def __enter__(self) -> HubStandIn:
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: HubStandIn
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: Any) -> None:
        pass

    # --- Reading and answering

    def _read(self, size: int) -> bytes:
        data = self.rfile.read(size)
        if len(data) < size:
            raise ConnectionError("the client went away")
        return data

    def _body(self, on_half: Callable[[], None] = lambda: None) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self._read(size))
                self._read(2)
            self._read(2)
            on_half()
            return b"".join(parts)
        size = int(self.headers.get("Content-Length") or 0)
        first = self._read(size // 2)
        on_half()
        return first + self._read(size - size // 2)

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _json(self, value: Any, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        with self.hub.lock:
            self.hub.requests.append(f"{self.command} {path}")
        try:
            for method, pattern, function in ROUTES:
                found = re.fullmatch(pattern, path) if self.command in method else None
                if found:
                    function(self, **found.groupdict())
                    return
            raise Refusal(404, "", f"no route {self.command} {path}")
        except Refusal as refusal:
            self.close_connection = True  # the body may not have been read
            headers = {"X-Error-Message": refusal.message, "Connection": "close"}
            if refusal.code:
                headers["X-Error-Code"] = refusal.code
            self._send(refusal.status, json.dumps({"error": refusal.message}).encode(), headers)
        except OSError:
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = _answer

    # --- Who asks, for what

    def _user(self) -> str:
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token not in self.hub.tokens:
            raise Refusal(401, "", "Invalid username or password.")
        return self.hub.tokens[token]

    def _repository(self, kind: str, name: str, write: bool = False) -> Repository:
        found = self.hub.repositories.get((kind, name))
        if write and self._user() != name.split("/")[0]:
            raise Refusal(403, "", "Forbidden: you are not the owner")
        if found is None or (found.private and not self.headers.get("Authorization")):
            raise Refusal(404 if self.headers.get("Authorization") else 401, "RepoNotFound", "Repository not found")
        if found.private and self._user() != name.split("/")[0]:
            raise Refusal(404, "RepoNotFound", "Repository not found")
        return found

    # --- Routes

    def whoami(self) -> None:
        name = self._user()
        self._json({"type": "user", "name": name, "orgs": [], "auth": {"accessToken": {"role": "write"}}})

    def validate(self) -> None:
        """The card's front matter has to be YAML and, when there, an object."""
        text = json.loads(self._body())["content"]
        front = re.match(r"---\n(.*?)\n---\n", text, re.S)
        try:
            right = isinstance(yaml.safe_load(front[1]) if front else {}, dict)
        except yaml.YAMLError:
            right = False
        self._json({"errors": [] if right else [{"message": "no YAML"}], "warnings": []}, 200 if right else 400)

    def create(self) -> None:
        user, asked = self._user(), json.loads(self._body())
        owner, kind = asked.get("organization") or user, asked.get("type") or "model"
        if owner != user:
            raise Refusal(403, "", f"You don't have the rights to create a {kind} under the namespace {owner!r}")
        name = f"{owner}/{asked['name']}"
        prefix = "" if kind == "model" else f"{kind}s/"
        answer = {"url": f"{self.hub.endpoint}/{prefix}{name}", "name": name}
        with self.hub.lock:
            if (kind, name) in self.hub.repositories:
                self._json({**answer, "error": "You already created this repo"}, 409)
                return
            private = asked.get("visibility") == "private" or bool(asked.get("private"))
            self.hub.repositories[kind, name] = Repository(kind, name, private, asked)
        self._json(answer)

    def preupload(self, kind: str, name: str, revision: str) -> None:
        files = self._repository(KINDS[kind], name, write=True).files(revision) or {}
        answer = []
        for file in json.loads(self._body())["files"]:
            mode = "lfs" if file["path"].endswith(BY_LFS) else "regular"
            known = files[file["path"]].oid if file["path"] in files else None
            answer.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": known})
        self._json({"files": answer, "commitOid": "0" * 40})

    def batch(self, name: str, kind: str | None = None) -> None:
        self._repository(KINDS[kind or "models"], name, write=True)
        asked = json.loads(self._body())
        assert asked["operation"] == "upload" and "basic" in asked["transfers"]
        objects: list[dict[str, Any]] = []
        for item in asked["objects"]:
            actions = {
                "upload": {"href": f"{self.hub.endpoint}/lfs/{item['oid']}", "header": {}},
                "verify": {"href": f"{self.hub.endpoint}/lfs-verify"},
            }
            objects.append({**item, **({} if item["oid"] in self.hub.objects else {"actions": actions})})
        self._json({"transfer": "basic", "objects": objects})

    def store(self, oid: str) -> None:
        content = self._body(on_half=lambda: self.hub.before_storing(oid))
        if hashlib.sha256(content).hexdigest() != oid:
            raise Refusal(400, "", "the content is not what its hash says")
        with self.hub.lock:
            self.hub.objects[oid] = content
            self.hub.uploads.append(oid)
            self.hub.lock.notify_all()
        self._send(200, b"")

    def verify(self) -> None:
        self._user()
        item = json.loads(self._body())
        if len(self.hub.objects.get(item["oid"], b"")) != item["size"]:
            raise Refusal(404, "", "the object has not arrived")
        self._json({})

    def commit(self, kind: str, name: str, revision: str) -> None:
        repository = self._repository(KINDS[kind], name, write=True)
        files = dict(repository.files(revision) or {})
        for line in self._body().splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "file":
                files[value["path"]] = StoredFile(base64.b64decode(value["content"]), by_lfs=False)
            elif item["key"] == "lfsFile":
                if value["oid"] not in self.hub.objects:
                    raise Refusal(400, "", f"{value['path']}: its LFS object never arrived")
                files[value["path"]] = StoredFile(self.hub.objects[value["oid"]], by_lfs=True)
            elif item["key"] == "deletedFile":
                del files[value["path"]]
            else:
                assert item["key"] == "header", item["key"]
        oid = repository.commit(files)
        prefix = "" if kind == "models" else f"{kind}/"
        self._json({"success": True, "commitOid": oid, "commitUrl": f"{self.hub.endpoint}/{prefix}{name}/commit/{oid}"})

    def info(self, kind: str, name: str, revision: str = "main") -> None:
        repository = self._repository(KINDS[kind], name)
        files = repository.files(revision)
        if files is None:
            raise Refusal(404, "RevisionNotFound", "Invalid rev id")
        answer = {"id": name, "sha": repository.head, "private": repository.private, "tags": [], "gated": False}
        self._json({**answer, "siblings": [{"rfilename": path} for path in sorted(files)]})

    def tree(self, kind: str, name: str, revision: str, folder: str = "") -> None:
        files = self._repository(KINDS[kind], name).files(revision) or {}
        start = folder.strip("/") + "/" if folder.strip("/") else ""
        found = [self._entry(path, file) for path, file in sorted(files.items()) if path.startswith(start)]
        if start and not found:
            raise Refusal(404, "EntryNotFound", "Entry not found")
        self._json(found)

    @staticmethod
    def _entry(path: str, file: StoredFile) -> dict[str, Any]:
        entry = {"type": "file", "path": path, "size": len(file.content), "oid": file.oid}
        lfs = {"oid": file.oid, "size": len(file.content), "pointerSize": 1}
        return {**entry, "lfs": lfs} if file.by_lfs else entry

    def resolve(self, name: str, revision: str, path: str, kind: str | None = None) -> None:
        repository = self._repository(KINDS[kind or "models"], name)
        files = repository.files(revision)
        if files is None:
            raise Refusal(404, "RevisionNotFound", "Invalid rev id")
        if path not in files:
            raise Refusal(404, "EntryNotFound", "Entry not found")
        content = files[path].content
        start = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        headers = {"ETag": f'"{files[path].oid}"', "X-Repo-Commit": repository.head, "Accept-Ranges": "bytes"}
        self._send(206 if start else 200, content[int(start[1]) if start else 0 :], headers)


_NAME = r"(?P<name>[\w.-]+/[\w.-]+)"
_API = rf"/api/(?P<kind>models|datasets|spaces)/{_NAME}"
_AT = r"(?:/(?P<kind>datasets|spaces))?/" + _NAME
ROUTES: list[tuple[str, str, Callable[..., None]]] = [
    ("GET", "/api/whoami-v2", _Handler.whoami),
    ("POST", "/api/validate-yaml", _Handler.validate),
    ("POST", "/api/repos/create", _Handler.create),
    ("POST", rf"{_API}/preupload/(?P<revision>[^/]+)", _Handler.preupload),
    ("POST", rf"{_API}/commit/(?P<revision>[^/]+)", _Handler.commit),
    ("POST", rf"{_AT}\.git/info/lfs/objects/batch", _Handler.batch),
    ("PUT", r"/lfs/(?P<oid>\w+)", _Handler.store),
    ("POST", "/lfs-verify", _Handler.verify),
    ("GET", rf"{_API}/tree/(?P<revision>[^/]+)(?P<folder>(?:/.*)?)", _Handler.tree),
    ("GET", rf"{_API}/revision/(?P<revision>[^/]+)", _Handler.info),
    ("GET", _API, _Handler.info),
    ("GETHEAD", rf"{_AT}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", _Handler.resolve),
]
