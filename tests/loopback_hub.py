"""A Hub on the loopback interface: the endpoints and headers that huggingface_hub 2.4 uses to fetch a model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit


@dataclass
class HubRepository:
    """What the server knows of one model."""

    files: dict[str, bytes]
    gated: bool = False
    """Listed for everyone, and no file of it given out: what the real Hub does."""
    sizes: dict[str, int | None] = field(default_factory=dict)
    """Sizes that the server states, where they are not the true ones."""
    served: dict[str, bytes] = field(default_factory=dict)
    """Contents that the server sends, where they are not the ones whose digest it states."""
    card: object = None

    @property
    def commit(self) -> str:
        """Return a commit id that depends on the contents alone."""
        digest = hashlib.sha1(usedforsecurity=False)
        for name, content in sorted(self.files.items()):
            digest.update(name.encode() + b"\0" + content)
        return digest.hexdigest()


@dataclass
class LoopbackHub:
    """A running server: where it is, what it holds and what it was asked."""

    endpoint: str
    repositories: dict[str, HubRepository]
    requests: list[str] = field(default_factory=list)
    """Method and path of every request, in order."""
    broken_answer: bytes | None = None
    """Sent, with status 200, in place of every answer of the API."""
    status: int | None = None
    """Sent in place of every answer."""

    @property
    def downloads(self) -> list[str]:
        """Return the paths of the files that were sent."""
        return [line.split("/resolve/")[1].split("/", 1)[1] for line in self.requests if line.startswith("GET /org")]


@contextmanager
def serve(repositories: dict[str, HubRepository]) -> Iterator[LoopbackHub]:
    """Serve `repositories` (by ORG/NAME, with ORG "org") until the block ends."""
    hub = LoopbackHub("", repositories)

    class Handler(_Handler):
        state = hub

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub.endpoint = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    state: LoopbackHub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the tests' output quiet."""

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.state.requests.append(f"{self.command} {path}")
        if self.state.status is not None:
            return self._send(self.state.status, b"")
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            return self._api("/".join(parts[2:4]), parts[4:])
        if len(parts) > 4 and parts[2] == "resolve":
            return self._file("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        return self._send(404, b"")

    def _api(self, name: str, rest: list[str]) -> None:
        repository = self.state.repositories.get(name)
        if repository is None:
            return self._send(401, b"", {"X-Error-Code": "RepoNotFound"})
        revision = rest[1] if len(rest) > 1 else "main"
        if revision not in {"main", repository.commit}:
            return self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        if self.state.broken_answer is not None:
            return self._send(200, self.state.broken_answer)
        listing = [_description(name, content, repository) for name, content in repository.files.items()]
        if rest[:1] == ["tree"]:
            return self._send(200, json.dumps(listing).encode())
        siblings = [
            {"rfilename": entry["path"], "size": entry["size"], "blobId": entry["oid"]}
            | ({"lfs": entry["lfs"] | {"sha256": entry["lfs"]["oid"]}} if "lfs" in entry else {})
            for entry in listing
        ]
        answer = {"id": name, "sha": repository.commit, "siblings": siblings, "cardData": repository.card}
        return self._send(200, json.dumps(answer).encode())

    def _file(self, name: str, commit: str, path: str) -> None:
        repository = self.state.repositories[name]
        if repository.gated:
            return self._send(401, b"", {"X-Error-Code": "GatedRepo"})
        if commit != repository.commit or path not in repository.files:
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
        described = _description(path, repository.files[path], repository)
        etag = described["lfs"]["oid"] if "lfs" in described else described["oid"]
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": commit}
        return self._send(200, repository.served.get(path, repository.files[path]), headers)

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _description(path: str, content: bytes, repository: HubRepository) -> dict[str, Any]:
    """Return a file as the tree endpoint does; weights are large files (LFS), known by their sha256."""
    size = repository.sizes.get(path, len(content))
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    entry: dict[str, Any] = {"type": "file", "path": path, "size": size, "oid": blob}
    if path.endswith((".safetensors", ".bin")):
        digest = hashlib.sha256(content).hexdigest()
        entry["lfs"] = {"oid": digest, "size": len(content), "pointerSize": 134}
    return entry
