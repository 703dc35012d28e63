"""What every request passes first: its key, the scope that its endpoint needs, and how often it may be asked."""

import logging
from dataclasses import replace
from functools import cached_property

from service.auth.keys import Keyring, presented
from service.auth.limits import limit
from service.auth.quota import Owner, Requester
from service.auth.rates import RateLimiter
from service.auth.requests_at_once import RequestsAtOnce
from service.endpoint import Endpoint
from service.errors import Code, ServiceError
from service.observability.logs import AUDIT
from service.request_context import Call, Caller, Scope, client_network
from service.settings import Settings

REALM = 'Bearer realm="gauntlet"'
FAILURES = 60  # keys that one address may get wrong in a minute


class Admission:
    """Keys, scopes and rates. The rates are counted together with the other processes of this service."""

    def __init__(self, settings: Settings) -> None:
        self.keys = Keyring.of(settings)
        self._settings = settings

    @cached_property
    def _rates(self) -> RateLimiter:
        """Opened where somebody is limited."""
        return RateLimiter(self._settings.rates_file)

    @cached_property
    def _at_once(self) -> RequestsAtOnce:
        return RequestsAtOnce(self._settings.rates_file)

    def admit(self, call: Call, endpoint: Endpoint) -> Call:
        """The call with who makes it. Raises ServiceError 401, 403 or 429 where it may not pass."""
        needed = None if endpoint.path == "/metrics" and self._settings.metrics_open else endpoint.scope
        if self.keys is not None and needed is not None:
            call = replace(call, caller=self._identify(self.keys, call))
        elif self.keys is not None:
            call = replace(call, anonymous=True)
        if endpoint.metered:
            self._meter(call)
        if needed is not None:
            require(call, needed)
        call.notes.audit = needed if needed in (Scope.UPLOAD, Scope.ADMIN) else None
        return call

    def leave(self, call: Call) -> None:
        """It has been answered, whether it was admitted or not."""
        if call.notes.counted is not None:
            self._at_once.leave(call.notes.counted)

    def _identify(self, keys: Keyring, call: Call) -> Caller:
        """Whose key a request brings. Raises ServiceError 401, or 429 where an address has brought too many."""
        secret = presented(call.headers.get("authorization"), call.headers.get("x-api-key"))
        found = None if secret is None else keys.find(secret)
        if found is not None:
            return found.caller
        if wait := self._rates.take(f"wrong {client_network(call.client)}", FAILURES):
            raise _too_often(wait, f"{FAILURES} requests a minute without a valid key are allowed to an address")
        audit("no key" if secret is None else "unknown key", call)
        if secret is None:
            message = "a key is needed: Authorization: Bearer KEY, or X-API-Key: KEY"
            raise ServiceError(Code.UNAUTHENTICATED, message, headers={"WWW-Authenticate": REALM})
        challenge = {"WWW-Authenticate": f'{REALM}, error="invalid_token"'}
        raise ServiceError(Code.UNAUTHENTICATED, "this key is not known here", headers=challenge)

    def _meter(self, call: Call) -> None:
        requester = call.requester
        rate = limit("requests_per_minute", call.caller, self._settings)
        if rate and (wait := self._rates.take(requester, rate)):
            raise _too_often(wait, f"{rate} requests a minute are allowed to the {requester}")
        most = limit("requests_at_once", call.caller, self._settings)
        if most and not self._at_once.enter(requester, most):
            raise _too_often(1, f"{most} requests of the {requester} are being answered, as many as may be at once")
        call.notes.counted = requester if most else None


def require(call: Call, needed: Scope) -> None:
    """Raises ServiceError ``forbidden``, and tells the audit, where the call's key has not this scope."""
    if call.caller is None or call.caller.scope.includes(needed):
        return
    audit("scope refused", call, needed=needed)
    message = f"this call needs a key with the scope {needed}; the key {call.caller.name} has {call.caller.scope}"
    challenge = {"WWW-Authenticate": f'{REALM}, error="insufficient_scope", scope="{needed}"'}
    raise ServiceError(Code.FORBIDDEN, message, headers=challenge, scope=needed)


def owner(call: Call, settings: Settings) -> Owner | None:
    """Whose a report is that this call asks for; None where keys are not in use."""
    caller = call.caller
    if caller is None:
        return None
    return Owner(caller.name, limit("reports_per_day", caller, settings), limit("stored_reports", caller, settings))


def requester(call: Call, settings: Settings) -> Requester:
    """Among whom the workers are shared."""
    return Requester(call.requester, limit("waiting_reports", call.caller, settings))


NOBODY = ""
"""No key has this name."""


def visible_owner(call: Call) -> str | None:
    """The one owner whose reports and unshared uploads this call may see; None: it may see all."""
    if call.caller is None:
        return NOBODY if call.anonymous else None
    return None if call.caller.scope is Scope.ADMIN else call.caller.name


def _too_often(wait: int, message: str) -> ServiceError:
    return ServiceError(Code.RATE_LIMITED, f"{message}; try again in {wait} s", headers={"Retry-After": str(wait)})


def audit(event: str, call: Call, **more: object) -> None:
    """One line for the audit. Never the key itself, and a path only of a call that an admin made."""
    fields = {
        "audit": event,
        "request_id": call.request_id,
        "key": None if call.caller is None else call.caller.name,
        "client": call.client,
        "method": call.method,
        "route": call.route,
        **more,
    }
    AUDIT.log(logging.INFO, "%s: %s %s", event, call.method, call.route, extra={"fields": fields})
