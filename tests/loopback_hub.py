"""
A Hub on the loopback interface: the endpoints and headers that huggingface_hub 2.4 uses to fetch a model.

Small files it sends itself; of large ones it says where they are, on a second server, which stands for the Hub's CDN.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any
from urllib.parse import unquote, urlsplit

Files = Mapping[str, bytes]


@dataclass
class HubRepository:
    """What the server knows of one model."""

    files: dict[str, bytes]
    gated: bool = False
    """Listed for everyone, and no file of it given out: what the real Hub does."""
    gated_status: int = 401
    """401 for somebody unknown, 403 for somebody who has not accepted the terms."""
    token: str | None = None
    """Private: not there for those who come without it."""
    sizes: dict[str, int | None] = field(default_factory=dict)
    """Sizes that the server states, where they are not the true ones."""
    served: dict[str, bytes] = field(default_factory=dict)
    """Contents that the server sends, where they are not the ones whose digest it states."""
    card: object = None
    cut: dict[str, list[int]] = field(default_factory=dict)
    """After how many bytes the connection breaks off, for each of the next times that a file is sent."""
    earlier: list[dict[str, bytes]] = field(default_factory=list)
    """Former commits, still there under their ids."""

    @property
    def commit(self) -> str:
        """Return the id of the commit that the branch is at; it depends on the contents alone."""
        return commit_of(self.files)

    def move(self, files: Files) -> None:
        """Let the branch go on to a new commit, in which these files are changed or new."""
        self.earlier.append(self.files)
        self.files = {**self.files, **files}

    def at(self, revision: str) -> dict[str, bytes] | None:
        """Return the files of a branch or commit."""
        by_commit = {commit_of(files): files for files in [*self.earlier, self.files]} | {"main": self.files}
        return by_commit.get(revision)


@dataclass(frozen=True)
class Answer:
    """What the server says instead of what it would."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass
class LoopbackHub:
    """A running server: where it is, what it holds and what it was asked."""

    endpoint: str
    repositories: dict[str, HubRepository]
    cdn: str = ""
    """Where the large files are."""
    renamed: dict[str, str] = field(default_factory=dict)
    """New names by old ones."""
    requests: list[str] = field(default_factory=list)
    """Method and path of every request, to the CDN as well, in order."""
    hub_headers: list[dict[str, str]] = field(default_factory=list)
    cdn_headers: list[dict[str, str]] = field(default_factory=list)
    """Headers of every request to either, with names in lower case."""
    downloads: list[str] = field(default_factory=list)
    """Paths of the files that were sent, in whole or in part."""
    statuses: list[int] = field(default_factory=list)
    """Of the files that were sent: 200 or 206."""
    broken_answer: bytes | None = None
    """Sent, with status 200, in place of every answer of the API."""
    status: int | None = None
    """Sent in place of every answer."""
    answers: dict[str, Answer] = field(default_factory=dict)
    """Sent in place of the answers to requests whose line begins so."""
    silent: str | None = None
    """Requests whose line begins so are heard and never answered."""
    on_request: Callable[[str], object] = lambda _: None
    """Told the line of every request before it is answered."""


@contextmanager
def serve(repositories: dict[str, HubRepository]) -> Iterator[LoopbackHub]:
    """Serve `repositories` (by ORG/NAME) until the block ends."""
    hub, ended = LoopbackHub("", repositories), Event()

    class Hub(_HubHandler):
        state, end = hub, ended

    class Cdn(_CdnHandler):
        state, end = hub, ended

    with _running(Hub, ended) as hub.endpoint, _running(Cdn, ended) as hub.cdn:
        yield hub


@contextmanager
def _running(handler: type[BaseHTTPRequestHandler], ended: Event) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            ended.set()
            server.shutdown()
            thread.join()


def commit_of(files: Files) -> str:
    """Return the id of the commit with these files."""
    digest = hashlib.sha1(usedforsecurity=False)
    for name, content in sorted(files.items()):
        digest.update(name.encode() + b"\0" + content)
    return digest.hexdigest()


class _Handler(BaseHTTPRequestHandler):
    state: LoopbackHub
    end: Event
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._heard()

    def do_HEAD(self) -> None:
        self._heard()

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the tests' output quiet."""

    def _heard(self) -> None:
        path = unquote(urlsplit(self.path).path)
        line = f"{self.command} {path}"
        self.state.requests.append(line)
        self._keep({name.lower(): value for name, value in self.headers.items()})
        self.state.on_request(line)
        if self.state.silent is not None and line.startswith(self.state.silent):
            self.end.wait(60)
            self.close_connection = True
            return None
        for beginning, answer in self.state.answers.items():
            if line.startswith(beginning):
                return self._send(answer.status, answer.body, answer.headers)
        return self._answer(path.strip("/").split("/"))

    def _keep(self, headers: dict[str, str]) -> None:
        raise NotImplementedError

    def _answer(self, parts: list[str]) -> None:
        raise NotImplementedError

    def _send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self._head(status, len(body), headers or {})
        if self.command != "HEAD":
            self.wfile.write(body)

    def _head(self, status: int, length: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def _content(self, repository: HubRepository, path: str, content: bytes, headers: Mapping[str, str]) -> None:
        """Send a file, or the range of it that was asked for, or as much of that as the connection holds."""
        content = repository.served.get(path, content)
        start, status, more = 0, 200, {"Accept-Ranges": "bytes"}
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked:
            start, status = int(asked[1]), 206
            if start >= len(content):
                return self._send(416, b"", {"Content-Range": f"bytes */{len(content)}"})
            more["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._head(status, len(content) - start, {**headers, **more})
        if self.command == "HEAD":
            return None
        self.state.downloads.append(path)
        self.state.statuses.append(status)
        cuts = repository.cut.get(path)
        end = start + cuts.pop(0) if cuts else len(content)
        self.wfile.write(content[start:end])
        if end < len(content):
            self.close_connection = True  # as a cable does that somebody pulls: less than was announced
        return None


class _HubHandler(_Handler):
    def _keep(self, headers: dict[str, str]) -> None:
        self.state.hub_headers.append(headers)

    def _answer(self, parts: list[str]) -> None:
        if self.state.status is not None:
            return self._send(self.state.status, b"")
        for old, new in self.state.renamed.items():
            if "/".join(parts).startswith((f"{old}/", f"api/models/{old}")):
                return self._send(307, b"", {"Location": self.path.replace(old, new, 1)})  # relative, as the Hub's are
        if parts[:2] == ["api", "models"]:
            return self._api("/".join(parts[2:4]), parts[4:])
        if len(parts) > 4 and parts[2] == "resolve":
            return self._file("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        return self._send(404, b"")

    def _known(self, name: str) -> HubRepository | None:
        repository = self.state.repositories.get(name)
        if repository is not None and repository.token is not None:
            return repository if self.headers.get("Authorization") == f"Bearer {repository.token}" else None
        return repository

    def _api(self, name: str, rest: list[str]) -> None:
        repository = self._known(name)
        if repository is None:
            status = 404 if "Authorization" in self.headers else 401
            return self._send(status, b"", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
        files = repository.at(rest[1] if len(rest) > 1 else "main")
        if files is None:
            return self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        if self.state.broken_answer is not None:
            return self._send(200, self.state.broken_answer)
        listing = [_description(path, content, repository) for path, content in files.items()]
        if rest[:1] == ["tree"]:
            return self._send(200, json.dumps(listing).encode())
        siblings = [
            {"rfilename": entry["path"], "size": entry["size"], "blobId": entry["oid"]}
            | ({"lfs": entry["lfs"] | {"sha256": entry["lfs"]["oid"]}} if "lfs" in entry else {})
            for entry in listing
        ]
        answer = {"id": name, "sha": commit_of(files), "siblings": siblings, "cardData": repository.card}
        return self._send(200, json.dumps(answer).encode())

    def _file(self, name: str, commit: str, path: str) -> None:
        repository = self._known(name)
        if repository is None:
            return self._send(404, b"", {"X-Error-Code": "RepoNotFound"})
        if repository.gated:
            return self._send(repository.gated_status, b"", {"X-Error-Code": "GatedRepo"})
        files = repository.at(commit) or {}
        if path not in files:
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
        described = _description(path, files[path], repository)
        headers = {"ETag": f'"{described["oid"]}"', "X-Repo-Commit": commit_of(files)}
        if "lfs" not in described:
            return self._content(repository, path, files[path], headers)
        where = f"{self.state.cdn}/cdn/{name}/{commit}/{path}?Signature=signed&Expires=1"
        linked = {"X-Linked-Size": str(described["lfs"]["size"]), "X-Linked-Etag": f'"{described["lfs"]["oid"]}"'}
        return self._send(302, b"Found. Redirecting", {**headers, **linked, "Location": where})


class _CdnHandler(_Handler):
    def _keep(self, headers: dict[str, str]) -> None:
        self.state.cdn_headers.append(headers)

    def _answer(self, parts: list[str]) -> None:
        name, commit, path = "/".join(parts[1:3]), parts[3], "/".join(parts[4:])
        repository = self.state.repositories[name]
        if "Signature=signed" not in self.path:
            return self._send(403, b"<Error>MissingKey</Error>", {"Content-Type": "application/xml"})
        content = (repository.at(commit) or {})[path]
        etag = hashlib.md5(content, usedforsecurity=False).hexdigest()  # its own, and not the Hub's
        return self._content(repository, path, content, {"ETag": f'"{etag}"'})


def _description(path: str, content: bytes, repository: HubRepository) -> dict[str, Any]:
    """Return a file as the tree endpoint does; weights are large files (LFS), known by their sha256."""
    size = repository.sizes.get(path, len(content))
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    entry: dict[str, Any] = {"type": "file", "path": path, "size": size, "oid": blob}
    if path.endswith((".safetensors", ".bin")):
        digest = hashlib.sha256(content).hexdigest()
        entry["lfs"] = {"oid": digest, "size": len(content), "pointerSize": 134}
    return entry
