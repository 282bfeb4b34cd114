"""A server with vLLM's manners and no model: the command line, the routes, the end, in milliseconds instead of half a minute.

It answers what the operator asks (/health, /v1/models, /v1/completions, /v1/embeddings, /tokenize, /invocations, /metrics, and in
runtime-LoRA mode /v1/load_lora_adapter and /v1/unload_lora_adapter) as vLLM 0.32 does, opens its port only after it has "loaded", ends with code 2 on a flag that it does not know, and can be told to fail: `POST /_fault`
with {"kind": "unhealthy" | "hang" | "die" | "eat"}. tests/test_twin_vllm.py holds it against the real server.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar


def arguments(argv: list[str]) -> argparse.Namespace:
    """The flags that matter to a client; the others are taken as vLLM's parser would: any `--name [value]`."""
    parser = argparse.ArgumentParser(prog="vllm serve", allow_abbrev=False)
    parser.add_argument("model")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--host", default="0.0.0.0")
    parser.add_argument("--served-model-name", nargs="+", default=None)
    parser.add_argument("--max-model-len", type=int, default=None)
    parser.add_argument("--runner", default="auto")
    parser.add_argument("--ssl-keyfile", default=None)
    parser.add_argument("--ssl-certfile", default=None)
    parser.add_argument("--lora-modules", nargs="+", default=[])
    parser.add_argument("--enable-lora", action="store_true")
    parser.add_argument("--max-lora-rank", type=int, default=16)
    parser.add_argument("--gpu-memory-utilization", type=float, default=None)
    known, _ = parser.parse_known_args(argv)
    return known


class Server(ThreadingHTTPServer):
    """The HTTP server with what it serves and what it was told to get wrong."""

    daemon_threads = True

    def __init__(self, args: argparse.Namespace) -> None:
        super().__init__((args.host, args.port), Routes)
        self.args = args
        self.names: list[str] = args.served_model_name or [args.model]
        self.max_model_len: int = args.max_model_len or _length_of(Path(args.model))
        self.adapters = dict(_module(text) for text in args.lora_modules)
        self.lora_routes = args.enable_lora and os.environ.get("VLLM_ALLOW_RUNTIME_LORA_UPDATING") == "1"
        self.fault = ""
        self.key = os.environ.get("VLLM_API_KEY", "")


def _module(text: str) -> tuple[str, str]:
    """Name and path of an entry of --lora-modules."""
    if text.startswith("{"):
        module = json.loads(text)
        return str(module["name"]), str(module["path"])
    name, _, path = text.partition("=")
    return name, path


def _length_of(folder: Path) -> int:
    config = json.loads((folder / "config.json").read_text())
    return int(config.get("max_position_embeddings", 2048))


class Routes(BaseHTTPRequestHandler):
    """One request; the routes and error texts are those of vLLM 0.32."""

    protocol_version = "HTTP/1.1"
    server: Server
    pooling_only: ClassVar[set[str]] = {"/v1/embeddings", "/pooling"}

    def do_GET(self) -> None:
        if self.server.fault == "hang":
            time.sleep(3600)
        if self.path == "/health":
            self._say(503 if self.server.fault == "unhealthy" else 200, b"")
        elif self.path == "/v1/models":
            self._models()
        elif self.path == "/version":
            self._json(200, {"version": "0.32.0"})
        elif self.path == "/metrics":
            self._say(200, b"vllm:num_requests_running 0.0\n", "text/plain")
        else:
            self._json(404, {"detail": "Not Found"})

    def do_POST(self) -> None:
        body = self._body()
        if self.path == "/_fault":
            self._fault(str(body.get("kind", "")))
        elif self.server.fault == "hang":
            time.sleep(3600)
        elif self.path.startswith("/v1") and not self._authorized():
            self._json(401, {"error": "Unauthorized"})
        elif self.server.fault == "unhealthy":
            self._json(500, {"error": {"message": "EngineCore encountered an issue.", "code": 500}})
        else:
            self._generate(body)

    def _generate(self, body: dict[str, Any]) -> None:
        pooling = self.server.args.runner == "pooling"
        asked = body.get("model")
        if self.path == "/tokenize":
            self._json(200, {"count": 1, "max_model_len": self.server.max_model_len, "tokens": [1]})
        elif self.path.endswith("load_lora_adapter") and self.server.lora_routes:
            self._adapter(body)
        elif asked is not None and asked not in {*self.server.names, *self.server.adapters}:
            message = f"The model `{asked}` does not exist."
            self._json(404, {"error": {"message": message, "type": "NotFoundError", "code": 404}})
        elif self.path in self.pooling_only and pooling:
            self._json(200, {"object": "list", "data": [{"index": 0, "object": "embedding", "embedding": [0.6, 0.8]}]})
        elif self.path in {"/v1/completions", "/v1/chat/completions"} and not pooling:
            choice = {"index": 0, "text": " world", "finish_reason": "length"}
            if self.path.endswith("chat/completions"):
                message = {"role": "assistant", "content": "world"}
                choice = {"index": 0, "message": message, "finish_reason": "length"}  # type: ignore[dict-item]
            self._json(
                200,
                {
                    "id": "cmpl-1",
                    "object": "text_completion",
                    "model": asked or self.server.names[0],
                    "choices": [choice],
                },
            )
        elif self.path == "/invocations":
            self.path = "/v1/embeddings" if pooling else "/v1/completions"
            self._generate(body)
        else:
            self._json(404, {"detail": "Not Found"})

    def _models(self) -> None:
        if not self._authorized():
            self._json(401, {"error": "Unauthorized"})
            return
        length = self.server.max_model_len
        card = {"object": "model", "created": 1, "owned_by": "vllm", "root": self.server.args.model, "parent": None}
        cards = [{**card, "id": name, "max_model_len": length} for name in self.server.names]
        for name, path in self.server.adapters.items():
            cards.append({**card, "id": name, "root": path, "parent": self.server.names[0], "max_model_len": None})
        self._json(200, {"object": "list", "data": cards})

    def _adapter(self, body: dict[str, Any]) -> None:
        name, path, adapters = str(body.get("lora_name")), str(body.get("lora_path")), self.server.adapters
        if self.path == "/v1/unload_lora_adapter":
            if name not in adapters:
                self._refuse(404, f"The lora adapter '{name}' cannot be found.")
                return
            del adapters[name]
            self._say(200, f"Success: LoRA adapter '{name}' removed successfully.".encode())
        elif name in self.server.names:
            self._refuse(400, f"The lora adapter '{name}' conflicts with a served base model.")
        elif name in adapters and not body.get("load_inplace"):
            self._refuse(400, f"The lora adapter '{name}' has already been loaded.")
        elif not (Path(path) / "adapter_config.json").is_file():
            self._refuse(404, f"Loading lora {name} failed: No adapter found for {path}")
        else:
            self._load(name, path)

    def _load(self, name: str, path: str) -> None:
        config, most = json.loads((Path(path) / "adapter_config.json").read_text()), self.server.args.max_lora_rank
        if config.get("modules_to_save"):
            self._refuse(500, "vLLM only supports modules_to_save being None.")
            return
        if config["r"] > most:
            self._refuse(500, f"LoRA rank {config['r']} is greater than max_lora_rank {most}.")
            return
        self.server.adapters[name] = path
        self._say(200, f"Success: LoRA adapter '{name}' added successfully.".encode())

    def _refuse(self, code: int, message: str) -> None:
        self._json(code, {"error": {"message": message, "type": "x", "code": code}})

    def _fault(self, kind: str) -> None:
        self.server.fault = kind
        self._json(200, {"fault": kind})
        if kind == "eat":  # until the kernel has had enough
            threading.Thread(target=_eat).start()
        if kind == "die":  # an engine that dies in service makes the API server end with code 0
            print(
                "ERROR 11-21 12:00:00 [core_client.py:600] Engine core proc EngineCore died unexpectedly, shutting down client.",
                flush=True,
            )
            threading.Timer(0.2, os._exit, (0,)).start()

    def _authorized(self) -> bool:
        return not self.server.key or self.headers.get("Authorization") == f"Bearer {self.server.key}"

    def _body(self) -> dict[str, Any]:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parsed = json.loads(raw or b"{}")
        return parsed if isinstance(parsed, dict) else {}

    def _json(self, code: int, value: object) -> None:
        self._say(code, json.dumps(value).encode(), "application/json")

    def _say(self, code: int, body: bytes, kind: str = "text/plain") -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """No access log: probes would fill it."""


def _eat() -> None:
    eaten = []
    while True:
        eaten.append(bytearray(b"x" * 32 * 1024 * 1024))


def serve(argv: list[str]) -> None:
    """Serves until SIGTERM; exit code 1 when the model's folder has no config.json, as vLLM's."""
    args = arguments(argv)
    if not (Path(args.model) / "config.json").is_file():
        sys.exit(f"OSError: Can't load the configuration of '{args.model}': it has no config.json")
    time.sleep(float(os.environ.get("VLLM_FAKE_LOAD_SECONDS", "0.5")))
    server = Server(args)
    if args.ssl_certfile:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(args.ssl_certfile, args.ssl_keyfile)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"INFO 11-21 12:00:00 [launcher.py:40] Started: {server.names} at {args.port}", flush=True)
    server.serve_forever(poll_interval=0.2)


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(sys.argv[2:])
    else:
        sys.exit("usage: vllm serve MODEL [--flags]")
