"""An HTTP server on the loopback interface, for tests."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple


class Answer(NamedTuple):
    """Response to a GET request."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = {}
    with_length: bool = True
    """state the length of the body; otherwise its end is that of the connection"""
    hangs: bool = False
    """send the headers and the body, then nothing until the server stops"""


class HTTPServer:
    """Answers requests by their path without query; unknown paths get status 404."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.requests: list[str] = []
        self.stopped = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests.append(self.path)
                answer = outer.answers.get(self.path.partition("?")[0], Answer(status=404))
                self.send_response(answer.status)
                length = {"Content-Length": str(len(answer.body))} if answer.with_length else {}
                for name, value in {**length, **answer.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer.body)
                self.wfile.flush()
                if answer.hangs:
                    outer.stopped.wait()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def stop(self) -> None:
        """End all requests and close the port."""
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
