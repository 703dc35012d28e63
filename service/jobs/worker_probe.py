"""The worker's own port: /livez for whoever restarts it, /metrics for Prometheus."""

import threading
from http.server import BaseHTTPRequestHandler
from ipaddress import IPv4Address, IPv6Address
from socket import AF_INET, AF_INET6
from socketserver import ThreadingTCPServer

from service.auth.keys import Keyring, presented
from service.auth.rates import RateLimiter
from service.observability import exposition, worker_metrics
from service.observability.logs import AUDIT
from service.settings import SettingsError

SILENT = 10.0  # seconds after which a client that says nothing is let go
LINES = 60  # refusals that are written to the audit in a minute


class _Handler(BaseHTTPRequestHandler):
    timeout = SILENT
    server: "Probe"

    def do_GET(self) -> None:
        match self.path.partition("?")[0]:
            case "/livez":
                reason = worker_metrics.LIVENESS.why_hung()
                self._answer(200 if reason is None else 503, f"{reason or 'alive'}\n".encode())
            case "/metrics" if not self._may():
                self._answer(401, b"a key is needed: Authorization: Bearer KEY, or X-API-Key: KEY\n")
            case "/metrics":
                body = exposition.generate_latest(worker_metrics.REGISTRY)
                self._answer(200, body, exposition.CONTENT_TYPE_LATEST)
            case _:
                self._answer(404, b"here are /livez and /metrics\n")

    def _may(self) -> bool:
        """Whether the metrics are for whoever asks. One who may not is in the audit."""
        keys = self.server.keys
        secret = presented(self.headers.get("Authorization"), self.headers.get("X-API-Key"))
        if keys is None or (secret is not None and keys.find(secret)):
            return True
        if self.server.refused.take("", LINES):
            return False
        event = "no key" if secret is None else "unknown key"
        fields = {"audit": event, "client": self.client_address[0], "method": "GET", "route": "/metrics"}
        AUDIT.info("%s: GET /metrics of the worker", event, extra={"fields": fields})
        return False

    def _answer(self, status: int, body: bytes, media: str = "text/plain; charset=utf-8") -> None:
        self.send_response(status)
        if status == 401:
            self.send_header("WWW-Authenticate", 'Bearer realm="gauntlet"')
        self.send_header("Content-Type", media)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the name of the method overridden
        """Nothing: probes come every few seconds."""


class Probe(ThreadingTCPServer):
    """Serves from a thread of its own; the metrics to who has one of the ``keys``, if there are any.

    Raises SettingsError where the port is taken.
    """

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, host: IPv4Address | IPv6Address, port: int, keys: Keyring | None) -> None:
        self.keys, self.refused = keys, RateLimiter()
        self.address_family = AF_INET6 if host.version == 6 else AF_INET
        try:
            super().__init__((str(host), port), _Handler)
        except OSError as error:
            raise SettingsError(f"GAUNTLET_WORKER_PORT={port}: cannot be used ({error.strerror})") from error
        threading.Thread(target=self.serve_forever, name="probe", daemon=True).start()
