"""Hugging Face and text-embeddings-inference (TEI) on loopback: real HTTP, answering as they do.

Paths, status codes, headers and bodies are those of router.huggingface.co, of the Hub's whoami and
model API, and of TEI 1.x. Vectors are the bundled model's, not of length 1, as providers may give
them. What is asked is kept, so that tests can say what left the machine.
"""

import hashlib
import json
import socket
import struct
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

GOOD, EXPIRED, NO_PERMISSION, OVER_QUOTA = "good", "expired", "no permission", "over quota"
MODEL, GATED, DIGEST = "test/minilm", "test/gated", "0123456789abcdef0123456789abcdef01234567"
LONGEST_BATCH = 32

Encode = Callable[[Sequence[str]], Any]
Answer = tuple[int, Any, dict[str, str]]


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: its path, the key it carried, its texts, and all its headers."""

    path: str
    key: str
    texts: tuple[str, ...]
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Fault:
    """What the next request meets instead of its answer."""

    status: int = 0
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict[str, str])
    reset: bool = False
    seconds: float = 0.0


RESET = Fault(reset=True)


def limited(seconds: str = "1") -> Fault:
    """The router's 429."""
    body = {"error": "Too Many Requests: you have reached your 'api' rate limit."}
    return Fault(429, body, {"retry-after": seconds})


def loading(seconds: float = 1.0) -> Fault:
    """503 while a model is being loaded."""
    body = {"error": f"Model {MODEL} is currently loading", "estimated_time": seconds}
    return Fault(503, body)


def failing(status: int) -> Fault:
    """A gateway's page, which is no JSON."""
    return Fault(status, f"<html><body><h1>{status}</h1></body></html>")


class HuggingFaceServer:
    """Router at `url`, Hub at `url`, the given-up host at `url/gone`, a TEI at `url/tei`.

    `keys` says what becomes of each key; any other one is unknown. `faults` are met by the next
    embedding requests, one each; while `down`, every connection is reset.
    """

    def __init__(self, encode: Encode, files: dict[str, Path] | None = None) -> None:
        self.encode = encode
        self.files = files or {}
        self.keys: dict[str, str] = {}
        self.asked: list[Asked] = []
        self.faults: deque[Fault] = deque()
        self.always: Fault | None = None
        self.down = False
        self.tei_key = ""
        self.poison = ""
        self.tei_info: dict[str, Any] | None = {"model_id": MODEL, "model_sha": DIGEST}
        self.most_texts = LONGEST_BATCH
        self.in_flight = self.most_in_flight = 0
        self.lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"outside": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def tei(self) -> str:
        return f"{self.url}/tei"

    @property
    def embedded(self) -> list[Asked]:
        """The requests that carried texts."""
        return [asked for asked in self.asked if asked.texts]

    def texts(self) -> list[str]:
        return [text for asked in self.embedded for text in asked.texts]

    def texts_with(self, key: str) -> list[str]:
        """The texts that came with a key."""
        return [text for asked in self.embedded if asked.key == key for text in asked.texts]

    def seen(self) -> str:
        """Everything that came, as one text to search in."""
        return repr(self.asked)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def hugging_face(encode: Encode) -> Iterator[HuggingFaceServer]:
    server = HuggingFaceServer(encode)
    try:
        yield server
    finally:
        server.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that gave up is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    outside: HuggingFaceServer

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        self._serve({})

    def do_HEAD(self) -> None:
        self._serve({})

    def do_POST(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        self._serve(json.loads(self.rfile.read(length) or b"{}"))

    def _serve(self, body: dict[str, Any]) -> None:
        outside = self.outside
        texts = body.get("inputs", ())
        texts = (texts,) if isinstance(texts, str) else tuple(texts)
        with outside.lock:
            outside.asked.append(Asked(self.path, self._key(), texts, dict(self.headers.items())))
            outside.in_flight += 1
            outside.most_in_flight = max(outside.most_in_flight, outside.in_flight)
        try:
            if outside.down:
                self._reset()
            else:
                self._answer(body, texts)
        finally:
            with outside.lock:
                outside.in_flight -= 1

    def _answer(self, body: dict[str, Any], texts: tuple[str, ...]) -> None:
        path = self.path.partition("?")[0]
        if path.startswith("/gone/"):
            self._send(*_gone())
        elif path.startswith("/tei"):
            self._tei(path.removeprefix("/tei") or "/", texts)
        elif path == "/info":
            self._send_info()
        elif path.startswith("/hf-inference/"):
            self._router(path, texts)
        elif path == "/api/whoami-v2":
            self._send(*self._whoami())
        else:
            self._hub(path)

    def _router(self, path: str, texts: tuple[str, ...]) -> None:
        model = path.removeprefix("/hf-inference/models/").partition("/pipeline/")[0]
        refusal = _refusal(self.outside.keys.get(self._key()), model)
        if refusal:
            self._send(*refusal)
        elif not self._faulty():
            self._send_vectors(texts, "batch size")

    def _tei(self, path: str, texts: tuple[str, ...]) -> None:
        if self.outside.tei_key and self._key() != self.outside.tei_key:
            self._send(401, "", {})
        elif path not in ("/", "/embed"):
            self._send(404, "", {})
        elif not self._faulty():
            self._send_vectors(texts, "batch size")

    def _send_info(self) -> None:
        info = self.outside.tei_info
        if info is None:
            self._send(404, "", {})
            return
        more = {
            "model_dtype": "float32",
            "model_type": {"embedding": {"pooling": "mean"}},
            "max_concurrent_requests": 512,
            "max_input_length": 256,
            "max_batch_tokens": 16384,
            "max_client_batch_size": self.outside.most_texts,
            "auto_truncate": False,
            "version": "1.8.2",
        }
        self._send(200, info | more, {})

    def _whoami(self) -> Answer:
        kind = self.outside.keys.get(self._key())
        if kind is None:
            return _unauthorized("Invalid credentials in Authorization header")
        if kind == EXPIRED:
            return _unauthorized('User Access Token "knowledged" is expired')
        token = {"displayName": "knowledged", "role": "fineGrained"}
        token["createdAt"] = "2026-01-01T00:00:00.000Z"
        token["expiresAt"] = "2027-01-01T00:00:00.000Z"
        auth = {"type": "access_token", "accessToken": token}
        return 200, {"type": "user", "id": "1", "name": "clinic", "auth": auth}, {}

    def _hub(self, path: str) -> None:
        """The model API and file downloads of one repository."""
        if f"/{GATED}/" in path or path.endswith(GATED):
            self._send(*_gated())
        elif path.startswith(f"/api/models/{MODEL}/tree/"):
            self._send(200, [self._entry(name) for name in self.outside.files], {})
        elif path.startswith(f"/api/models/{MODEL}"):
            names = [{"rfilename": name} for name in self.outside.files]
            self._send(200, {"id": MODEL, "sha": DIGEST, "siblings": names}, {})
        elif path.startswith(f"/{MODEL}/resolve/"):
            self._file(path.removeprefix(f"/{MODEL}/resolve/").partition("/")[2])
        else:
            code = {"x-error-code": "RepoNotFound", "x-error-message": "Repository not found"}
            self._send(404, {"error": "Repository not found"}, code)

    def _entry(self, name: str) -> dict[str, Any]:
        size = self.outside.files[name].stat().st_size
        return {"type": "file", "path": name, "size": size, "oid": _oid(name)}

    def _file(self, name: str) -> None:
        file = self.outside.files.get(name)
        if file is None:
            self._send(404, {"error": "Entry not found"}, {"x-error-code": "EntryNotFound"})
            return
        headers = {"x-repo-commit": DIGEST, "etag": f'"{_oid(name)}"'}
        self._send(200, file.read_bytes(), headers)

    def _faulty(self) -> bool:
        with self.outside.lock:
            queue = self.outside.faults
            fault = queue.popleft() if queue else self.outside.always
        if fault is None:
            return False
        time.sleep(fault.seconds)
        if fault.reset:
            self._reset()
        elif fault.status:
            self._send(fault.status, fault.body, fault.headers)
        return fault.reset or fault.status > 0

    def _send_vectors(self, texts: tuple[str, ...], what: str) -> None:
        if self.outside.poison and any(self.outside.poison in text for text in texts):
            error = "`inputs` cannot be tokenized"
            self._send(422, {"error": error, "error_type": "Tokenizer"}, {})
            return
        if len(texts) > self.outside.most_texts:
            most = self.outside.most_texts
            error = f"{what} {len(texts)} > maximum allowed {what} {most}"
            self._send(413, {"error": error, "error_type": "Validation"}, {})
            return
        with self.outside.lock:
            vectors = self.outside.encode(texts)
        self._send(200, [[1.7 * float(value) for value in row] for row in vectors], {})

    def _send(self, status: int, body: Any, headers: dict[str, str]) -> None:
        raw = body if isinstance(body, bytes) else _encoded(body)
        self.send_response(status)
        kind = "text/html" if isinstance(body, str) else "application/json; charset=utf-8"
        own = {"content-type": kind, "x-request-id": f"Root=1-{uuid.uuid4()}"}
        for name, value in (own | headers | {"content-length": str(len(raw))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(raw)

    def _reset(self) -> None:
        """Closes so that the other side reads "connection reset by peer"."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def _key(self) -> str:
        return (self.headers.get("authorization") or "").removeprefix("Bearer ")


def _oid(name: str) -> str:
    """Of a file in Git, by its name; 40 hex digits."""
    return hashlib.sha1(name.encode()).hexdigest()  # noqa: S324 - as Git has it


def _encoded(body: Any) -> bytes:
    return body.encode() if isinstance(body, str) else json.dumps(body).encode()


def _unauthorized(message: str) -> Answer:
    return 401, {"error": message}, {"x-error-message": message}


def _gated() -> Answer:
    message = f"Access to model {GATED} is restricted and you are not in the authorized list."
    headers = {"x-error-code": "GatedRepo", "x-error-message": message}
    return 403, {"error": message}, headers


def _gone() -> Answer:
    message = (
        "https://api-inference.huggingface.co is no longer supported. Please use"
        " https://router.huggingface.co instead."
    )
    return 410, {"error": message}, {}


def _refusal(kind: str | None, model: str) -> Answer | None:
    """What the router has against a key or a model, if anything."""
    if kind is None:
        return _unauthorized("Invalid username or password.")
    if kind in _KEY_REFUSALS:
        return _KEY_REFUSALS[kind]
    if model == GATED:
        return _gated()
    return None if model == MODEL else (404, {"error": "Model not found"}, {})


_KEY_REFUSALS: dict[str, Answer] = {
    EXPIRED: _unauthorized('User Access Token "knowledged" is expired'),
    NO_PERMISSION: (
        403,
        {
            "error": "This authentication method does not have sufficient permissions to call"
            " Inference Providers on behalf of user clinic"
        },
        {},
    ),
    OVER_QUOTA: (
        402,
        {
            "error": "You have exceeded your monthly included credits for Inference Providers."
            " Subscribe to PRO to get 20x more monthly included credits."
        },
        {},
    ),
}
