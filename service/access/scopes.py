"""Who may do what: the one table of scopes, and the door that every request passes."""

import logging
from collections.abc import Mapping

from service.access.keys import Key, Keyring, Scope, presented
from service.access.quota import Owner
from service.access.rates import Buckets, neighbourhood
from service.errors import Call, Code, ServiceError
from service.http.routes import OIP, OIP_VERSION, REPORT, STORED, Route
from service.settings import Settings
from service.watch.logs import AUDIT

NEEDS: Mapping[tuple[str, str], Scope | None] = {
    ("GET", "/"): None,  # the page itself; what it shows it asks for with a key
    ("GET", "/static/{file}"): None,
    ("POST", "/classify"): Scope.READ,
    ("POST", "/generate"): Scope.READ,
    ("POST", "/attack"): Scope.ATTACK,
    ("POST", REPORT): Scope.ATTACK,
    ("GET", REPORT): Scope.READ,
    ("GET", f"{REPORT}/{{id}}"): Scope.READ,
    ("DELETE", f"{REPORT}/{{id}}"): Scope.ATTACK,
    ("GET", f"{REPORT}/{{id}}/html"): Scope.READ,
    ("POST", f"{REPORT}/{{id}}/cancel"): Scope.ATTACK,
    ("GET", "/models"): Scope.READ,
    ("GET", "/models/{name}"): Scope.READ,
    ("GET", "/evalsets"): Scope.READ,
    ("GET", "/evalsets/{name}"): Scope.READ,
    ("POST", "/models"): Scope.ADMIN,
    ("POST", "/models/reload"): Scope.ADMIN,
    ("DELETE", "/models/{name}"): Scope.ADMIN,
    ("POST", "/evalsets"): Scope.ADMIN,
    ("DELETE", "/evalsets/{name}"): Scope.ADMIN,
    ("GET", "/attacks"): Scope.READ,
    ("GET", "/livez"): None,
    ("GET", "/healthz"): None,
    ("GET", "/readyz"): None,
    ("GET", "/metrics"): Scope.READ,  # None with GAUNTLET_METRICS_OPEN
    ("GET", "/openapi.json"): None,
    ("GET", "/schema.json"): None,
    ("GET", "/v2"): Scope.READ,
    ("GET", "/v2/health/live"): None,
    ("GET", "/v2/health/ready"): None,
    ("GET", OIP): Scope.READ,
    ("GET", OIP_VERSION): Scope.READ,
    ("GET", f"{OIP}/ready"): Scope.READ,
    ("GET", f"{OIP_VERSION}/ready"): Scope.READ,
    ("POST", f"{OIP}/infer"): Scope.READ,
    ("POST", f"{OIP_VERSION}/infer"): Scope.READ,
    ("POST", "/v2/repository/index"): Scope.READ,
    ("POST", f"{STORED}/load"): Scope.ADMIN,
    ("POST", f"{STORED}/unload"): Scope.ADMIN,
}
"""The scope that each call needs. What somebody else's key made is ``admin``'s alone, whatever stands here."""

UNMETERED = frozenset({"/livez", "/healthz", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready"})
REALM = 'Bearer realm="gauntlet"'
FAILURES = 60  # keys that one address may get wrong in a minute


def needs(method: str, path: str) -> Scope | None:
    """Of a route. One that nobody thought of is for ``admin``."""
    return NEEDS.get((method, path), Scope.ADMIN)


class Access:
    """Keys, scopes and rates of one process."""

    def __init__(self, settings: Settings) -> None:
        self.keys = Keyring.of(settings)
        self._rate, self._metrics_open = settings.requests_per_minute, settings.metrics_open
        self._buckets = Buckets()

    def admit(self, call: Call, route: Route, host: str) -> None:
        """Let a request pass, and write its key into ``call``. Raises ServiceError 401, 403 or 429."""
        wanted = None if route.path == "/metrics" and self._metrics_open else needs(route.method, route.path)
        if self.keys is not None and wanted is not None:
            call.key = self._identify(self.keys, call, route, host)
        if route.path not in UNMETERED:
            self._meter(call.key, host)
        if call.key is not None and wanted is not None and not call.key.scope.includes(wanted):
            note("scope refused", call, route, host, needed=wanted)
            message = f"this call needs a key with the scope {wanted}; the key {call.key.name} has {call.key.scope}"
            challenge = {"WWW-Authenticate": f'{REALM}, error="insufficient_scope", scope="{wanted}"'}
            raise ServiceError(Code.FORBIDDEN, message, headers=challenge, scope=wanted)
        call.admin = wanted is Scope.ADMIN

    def _identify(self, keys: Keyring, call: Call, route: Route, host: str) -> Key:
        """The key that a request brings. Raises ServiceError 401, or 429 where an address has brought too many."""
        secret = presented(call.headers.get("authorization"), call.headers.get("x-api-key"))
        found = None if secret is None else keys.find(secret)
        if found is not None:
            return found
        if wait := self._buckets.take(f"wrong {neighbourhood(host)}", FAILURES):
            raise _too_often(wait, "too many requests without a valid key")
        note("no key" if secret is None else "unknown key", call, route, host)
        if secret is None:
            message = "a key is needed: Authorization: Bearer KEY, or X-API-Key: KEY"
            raise ServiceError(Code.UNAUTHENTICATED, message, headers={"WWW-Authenticate": REALM})
        challenge = {"WWW-Authenticate": f'{REALM}, error="invalid_token"'}
        raise ServiceError(Code.UNAUTHENTICATED, "this key is not known here", headers=challenge)

    def _meter(self, key: Key | None, host: str) -> None:
        own = None if key is None else key.requests_per_minute
        rate = self._rate if own is None else own
        if rate == 0:
            return
        who = f"key {key.name}" if key else f"address {neighbourhood(host)}"
        if wait := self._buckets.take(who, rate):
            raise _too_often(wait, f"{rate} requests a minute are allowed")


def owner(call: Call, settings: Settings) -> Owner | None:
    """Whose a report is that this call asks for; None where keys are not in use."""
    key = call.key
    if key is None:
        return None
    a_day = settings.reports_per_day if key.reports_per_day is None else key.reports_per_day
    stored = settings.stored_reports if key.stored_reports is None else key.stored_reports
    return Owner(key.name, a_day, stored)


def sees(call: Call) -> str | None:
    """The one owner whose reports this call may see; None: it may see all."""
    return None if call.key is None or call.key.scope is Scope.ADMIN else call.key.name


def _too_often(wait: int, message: str) -> ServiceError:
    return ServiceError(Code.RATE_LIMITED, f"{message}; try again in {wait} s", headers={"Retry-After": str(wait)})


def note(event: str, call: Call, route: Route, host: str, **more: object) -> None:
    """One line for the audit. Never the key itself, and a path only of a call that an admin made."""
    fields = {
        "audit": event,
        "request_id": call.request_id,
        "key": None if call.key is None else call.key.name,
        "client": host,
        "method": route.method,
        "route": route.path,
        **more,
    }
    AUDIT.log(logging.INFO, "%s: %s %s", event, route.method, route.path, extra={"fields": fields})
