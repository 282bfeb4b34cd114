"""The hub's HTTP side: routes, access checks and answers. HTTP/1.1 with connections kept alive."""

from __future__ import annotations

import json
import re
import ssl
import sys
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from tests.hub import answers, shapes
from tests.hub.answers import HubError
from tests.hub.faults import Fault, Faults
from tests.hub.repos import Commit, HubFile, Repos
from tests.hub.sending import Line, asked_span, reset, send_file

API = re.compile(r"^/api/models/([^/]+/[^/]+)(?:/(revision|tree|refs|paths-info|auth-check)(?:/([^/]+)(?:/(.*))?)?)?$")
RESOLVE = re.compile(r"^/([^/]+/[^/]+)/(?:resolve|raw)/([^/]+)/(.+)$")
CDN = re.compile(r"^/_cdn/([^/]+/[^/]+)/([^/]+)/(.+)$")


class Hub:
    """A running hub: `with Hub(root) as hub: hub.url`. Faults can be set by `hub.faults` or over the wire."""

    def __init__(
        self, root: Path, host: str = "127.0.0.1", port: int = 0, control: bool = True, line: float | None = None
    ) -> None:
        self.repos = Repos(root)
        self.faults = Faults()
        self.line = Line(line)
        self.control = control
        handler = type("BoundHandler", (_Handler,), {"hub": self})
        self.tcp = _Server((host, port), handler)
        self.port: int = self.tcp.server_address[1]
        self.url = f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{self.port}"
        self._thread = threading.Thread(target=self.tcp.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Hub:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.tcp.shutdown()
        self.tcp.server_close()

    def serve_forever(self) -> None:
        self.tcp.serve_forever()

    def break_next(self, kind: str, **how: Any) -> None:
        """Sets a fault, with the names of tests/hub/faults.py."""
        self.faults.add(Fault.parse({"kind": kind} | how))

    @property
    def requests(self) -> dict[str, Any]:
        return self.faults.report()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is what the tests are about; anything else is shown."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"
    server_version = "tests-hub"
    disable_nagle_algorithm = True
    timeout = 120

    def do_GET(self) -> None:
        self._answer(head=False)

    def do_HEAD(self) -> None:
        self._answer(head=True)

    def do_POST(self) -> None:
        self._answer(head=False)

    def do_DELETE(self) -> None:
        self._answer(head=False)

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: GET /_requests tells what was asked."""

    def _answer(self, head: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        try:
            if path.startswith("/_") and not path.startswith("/_cdn/"):
                self._control(path)
            else:
                self._route(path, head)
        except HubError as error:
            self._send_error(error, head)
        except (BrokenPipeError, ConnectionError):
            self.close_connection = True

    def _route(self, path: str, head: bool) -> None:
        if match := CDN.match(path):
            if not self._fails("cdn", match[1], match[3]):
                self._serve_file(match[1], match[2], match[3], head)
        elif match := API.match(path):
            if not self._fails("api", match[1], match[3] or ""):
                self._api(match[1], match[2] or "revision", match[3] or "main", match[4] or "")
        elif match := RESOLVE.match(path):
            if not self._fails("resolve", match[1], match[3]):
                self._resolve(match[1], match[2], match[3], head)
        else:
            self._other(path)

    def _other(self, path: str) -> None:
        if path in ("/api/whoami-v2", "/api/whoami"):
            self._send_json(answers.whoami(self._user() or self._deny(answers.bad_token())))
        elif path == "/healthz":
            self._send_json({"ok": True})
        else:
            raise HubError(404, None, f"No such page: {path}")

    def _fails(self, where: str, repo: str, path: str) -> bool:
        """Notes the request; True when a fault has answered it already."""
        self.hub.faults.note(self.command, where, repo, path, self.headers.get("Range"))
        fault = self.hub.faults.take(where, repo, path)
        self.fault = fault
        if fault is not None and fault.kind == "status":
            self._read_body()
            extra = {} if fault.retryAfter is None else {"Retry-After": f"{fault.retryAfter:g}"}
            self._send_json({"error": "A fault of the test"}, fault.status, extra)
            return True
        if fault is not None and fault.kind == "revoke" and where == "api":
            self.hub.faults.revoke(fault)
        if fault is not None and fault.kind == "cut" and where != "cdn" and fault.afterBytes == 0:
            reset(self.connection)
            self.close_connection = True
            return True
        return False

    # Access

    def _token(self) -> str | None:
        header = self.headers.get("Authorization", "")
        return header.removeprefix("Bearer ").strip() if header.startswith("Bearer ") else None

    def _user(self) -> str | None:
        """Whose token it is; None without one. Raises HubError for an unknown or revoked token."""
        token = self._token()
        if token is None:
            return None
        owner = self.hub.repos.owner(token)
        if owner is None or self.hub.faults.is_revoked(token):
            raise answers.bad_token()
        return owner

    def _deny(self, error: HubError) -> str:
        raise error

    def _commit(self, repo: str, revision: str) -> Commit:
        user = self._user()
        if self.hub.repos.folder(repo) is None or (self.hub.repos.is_private(repo) and user is None):
            raise answers.repo_not_found(with_token=user is not None)
        commit = self.hub.repos.commit(repo, revision)
        if commit is None:
            raise answers.revision_not_found(revision)
        return commit

    def _check_gate(self, repo: str) -> None:
        token = self._token()
        if not self.hub.repos.passes_gate(repo, token):
            raise answers.gated(repo, with_token=token is not None)

    # Answers

    def _api(self, repo: str, verb: str, revision: str, under: str) -> None:
        body = self._read_body()
        commit = self._commit(repo, "main" if verb in ("refs", "auth-check") else revision)
        query = parse_qs(urlsplit(self.path).query)
        recursive = query.get("recursive", ["false"])[0].lower() in ("true", "1")
        if verb == "revision":
            self._send_json(answers.model_info(self.hub.repos, repo, commit, "blobs" in query))
        elif verb == "tree":
            self._send_json(answers.tree(commit, under, recursive))
        elif verb == "paths-info":
            self._send_json(_paths_info(commit, body, self.headers.get("Content-Type", "")))
        elif verb == "refs":
            self._send_json(answers.refs(self.hub.repos, repo))
        else:
            self._check_gate(repo)
            self._send_json({})

    def _resolve(self, repo: str, revision: str, path: str, head: bool) -> None:
        commit = self._commit(repo, revision)
        self._check_gate(repo)
        file = commit.file(path)
        if file is None:
            raise answers.entry_not_found()
        if file.sha256 is None:
            self._serve_file(repo, commit.sha, path, head)
            return
        scheme = "https" if isinstance(self.connection, ssl.SSLSocket) else "http"
        base = f"{scheme}://{self.headers.get('Host', '')}"
        self.send_response(302)
        self._file_headers(file, commit)
        self.send_header("Location", f"{base}/_cdn/{repo}/{commit.sha}/{quote(path)}?Signature=test")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _serve_file(self, repo: str, revision: str, path: str, head: bool) -> None:
        commit = self.hub.repos.commit(repo, revision)
        file = commit.file(path) if commit else None
        if commit is None or file is None:
            raise answers.entry_not_found()
        asked = self.headers.get("Range")
        span = asked_span(asked, file.size)
        if span is None:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{file.size}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.fault is not None and self.fault.kind in shapes.KINDS:
            shapes.answer_otherwise(self, self.fault.kind, file.on_disk.read_bytes(), span.start, span.end)
            return
        self.send_response(206 if asked else 200)
        self._file_headers(file, commit)
        if asked:
            self.send_header("Content-Range", f"bytes {span.start}-{span.end - 1}/{file.size}")
        self.send_header("Content-Length", str(span.length))
        self.send_header("Content-Type", "application/octet-stream")
        self.end_headers()
        hub = self.hub
        if not head and not send_file(self.connection, file.on_disk, span, self.fault, hub.faults, hub.line):
            self.close_connection = True

    def _file_headers(self, file: HubFile, commit: Commit) -> None:
        self.send_header("X-Repo-Commit", commit.sha)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{file.etag}"')
        if file.sha256 is not None:
            self.send_header("X-Linked-Etag", f'"{file.sha256}"')
            self.send_header("X-Linked-Size", str(file.size))

    def _control(self, path: str) -> None:
        body = self._read_body()
        faults = self.hub.faults
        if path == "/_requests":
            if self.command == "DELETE":
                faults.reset()
            self._send_json(faults.report())
        elif path == "/_faults" and self.hub.control:
            if self.command == "DELETE":
                faults.clear(parse_qs(urlsplit(self.path).query).get("repo", [None])[0])
            else:
                try:
                    faults.add(Fault.parse(json.loads(body)))
                except ValueError as error:
                    raise HubError(400, None, str(error)) from error
            self._send_json({"ok": True})
        else:
            raise HubError(404, None, "No such control")

    def _read_body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _send_error(self, error: HubError, head: bool) -> None:
        headers = {"X-Error-Message": error.message} | ({"X-Error-Code": error.code} if error.code else {})
        self._send_json({"error": error.message}, error.status, headers, head)

    def _send_json(
        self, answer: object, status: int = 200, extra: Mapping[str, str] | None = None, head: bool = False
    ) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        for name, value in (extra or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if not head and self.command != "HEAD":
            self.wfile.write(body)


def _paths_info(commit: Commit, body: bytes, content_type: str) -> list[dict[str, Any]]:
    wanted = json.loads(body)["paths"] if "json" in content_type else parse_qs(body.decode()).get("paths", [])
    return [answers.tree_entry(file) for file in commit.files if file.path in wanted]
