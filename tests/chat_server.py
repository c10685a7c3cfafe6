"""An OpenAI-compatible server on loopback that fails when it is told to, and counts what it is asked."""

import contextlib
import http.server
import json
import sys
import threading
import time
from typing import NamedTuple

PROMPT_TOKENS, CACHED_TOKENS, TOKENS = 10, 4, 3


class Reply(NamedTuple):
    """One answer: sent after `delay` seconds, and only in part if the connection is to be `cut`."""

    body: object
    status: int = 200
    headers: dict = {}  # noqa: RUF012
    delay: float = 0.0
    cut: bool = False


class ChatServer:
    """Answers request number k with `script[k]`, and beyond the script with `usual(request)`.

    Attributes:
        requests: the bodies, in the order of their coming.
        headers: of the same requests.
        times: seconds of their coming.
        most_at_once: the most requests that were in progress at once.
    """

    def __init__(self):
        self.script, self.usual = [], said
        self.requests, self.headers, self.times = [], [], []
        self.most_at_once = self._now = 0
        self._lock = threading.Lock()

    def __enter__(self):
        self._server = _QuietServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"owner": self}))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self):
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def reply(self, request, headers):
        with self._lock:
            number = len(self.requests)
            self.requests.append(request)
            self.headers.append(headers)
            self.times.append(time.monotonic())
        return self.script[number] if number < len(self.script) else self.usual(request)

    @contextlib.contextmanager
    def counted(self):
        with self._lock:
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        try:
            yield
        finally:
            with self._lock:
                self._now -= 1


class _QuietServer(http.server.ThreadingHTTPServer):
    """Says nothing about connections that were cut, which is what it is for."""

    def handle_error(self, request, client_address):
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: ChatServer

    def do_POST(self):
        assert self.path == "/v1/chat/completions"
        sent = self.rfile.read(int(self.headers["Content-Length"]))
        if len(sent) < int(self.headers["Content-Length"]):
            return  # the client gave up while it was asking
        request = json.loads(sent)
        with self.owner.counted(), contextlib.suppress(ConnectionError):
            reply = self.owner.reply(request, self.headers)
            time.sleep(reply.delay)
            body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            self.send_response(reply.status)
            headers = {"Content-Type": "application/json", "Content-Length": len(body), **reply.headers}
            for name, value in headers.items():
                self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if reply.cut else body)
            self.close_connection = reply.cut

    def log_message(self, *_):
        pass


def completion(*texts, finish="stop", logprob=None, **changes):
    """A chat completion of `TOKENS` tokens a text; `changes` replace parts of it, None takes them out."""
    body = {
        "object": "chat.completion",
        "choices": [
            {"index": index, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
            for index, text in enumerate(texts)
        ],
        "usage": {
            "prompt_tokens": PROMPT_TOKENS,
            "completion_tokens": TOKENS * len(texts),
            "prompt_tokens_details": {"cached_tokens": CACHED_TOKENS},
        },
        **changes,
    }
    for choice in body["choices"] if logprob is not None else ():
        choice["logprobs"] = {"content": [{"token": "t", "logprob": logprob}] * TOKENS}
    return {name: part for name, part in body.items() if part is not None}


def said(request):
    """The usual answer: every choice says the last message, the seed and its own number."""
    last, seed = request["messages"][-1]["content"], request["seed"]
    return Reply(completion(*(f"{last} {seed} {number}" for number in range(request["n"]))))


def failed(status, message="out of order", headers=None, **error):
    """An error in OpenAI's form."""
    return Reply({"error": {"message": message, **error}}, status, headers or {})
