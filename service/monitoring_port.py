"""A port of its own for whoever watches a process: what Prometheus reads, and whether a worker lives."""

import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler
from ipaddress import IPv4Address, IPv6Address
from socket import AF_INET, AF_INET6
from socketserver import ThreadingTCPServer

from service.auth.keys import Keyring, presented
from service.auth.rates import RateLimiter
from service.observability.exposition import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from service.observability.logs import AUDIT
from service.settings import Settings, SettingsError

TEXT = "text/plain; charset=utf-8"
METRICS = "/metrics"
Page = Callable[[], tuple[int, bytes, str]]
"""Makes an answer: status, body, media type."""

SILENT = 10.0  # seconds after which a client that says nothing is let go
LINES = 60  # refusals that are written to the audit in a minute


class _Handler(BaseHTTPRequestHandler):
    timeout = SILENT
    server: "MonitoringPort"

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        page = self.server.pages.get(path)
        if page is None:
            self._answer(404, f"here are {' and '.join(self.server.pages)}\n".encode(), TEXT)
        elif path == METRICS and not self._may():
            self._answer(401, b"a key is needed: Authorization: Bearer KEY, or X-API-Key: KEY\n", TEXT)
        else:
            self._answer(*page())

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
        AUDIT.info("%s: GET /metrics on its own port", event, extra={"fields": fields})
        return False

    def _answer(self, status: int, body: bytes, media: str) -> None:
        self.send_response(status)
        if status == 401:
            self.send_header("WWW-Authenticate", 'Bearer realm="gauntlet"')
        self.send_header("Content-Type", media)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the name of the method overridden
        """Nothing: probes come every few seconds."""


class MonitoringPort(ThreadingTCPServer):
    """Serves pages from a thread of its own; the metrics to who has one of the ``keys``, if there are any.

    ``shared``: other processes of the service listen on it too, and the kernel chooses who answers. Raises
    SettingsError where the port is taken.
    """

    allow_reuse_address = True
    daemon_threads = True

    def __init__(
        self,
        setting: str,
        host: IPv4Address | IPv6Address,
        port: int,
        pages: Mapping[str, Page],
        keys: Keyring | None,
        *,
        shared: bool = False,
    ) -> None:
        self.pages, self.keys, self.refused = pages, keys, RateLimiter()
        self.address_family = AF_INET6 if host.version == 6 else AF_INET
        self.allow_reuse_port = shared
        try:
            super().__init__((str(host), port), _Handler)
        except OSError as error:
            raise SettingsError(f"{setting}={port}: cannot be used ({error.strerror})") from error
        threading.Thread(target=self.serve_forever, name="monitoring", daemon=True).start()


def metrics_page(registry: CollectorRegistry) -> Page:
    return lambda: (200, generate_latest(registry), CONTENT_TYPE_LATEST)


def open_metrics_port(settings: Settings, registry: CollectorRegistry) -> None:
    """In each process that answers, where the settings want one: each knows what all of them have counted."""
    if settings.metrics_port:
        keys = None if settings.metrics_open else Keyring.of(settings)
        pages = {METRICS: metrics_page(registry)}
        MonitoringPort("GAUNTLET_METRICS_PORT", settings.host, settings.metrics_port, pages, keys, shared=True)


def check_metrics_port(settings: Settings) -> None:
    """Before any process shares it. Raises SettingsError where it is taken."""
    if settings.metrics_port:
        taken = MonitoringPort("GAUNTLET_METRICS_PORT", settings.host, settings.metrics_port, {}, None)
        taken.shutdown()
        taken.server_close()
