"""Who a request is from where proxies stand in front: the last address in X-Forwarded-For that is no proxy's.

Without the setting the header is nobody's word: whoever connects is whom limits and the audit log count.
"""

import os

from starlette.types import ASGIApp
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from service.settings import Settings

os.environ["FORWARDED_ALLOW_IPS"] = ""  # of uvicorn, which would believe every process of this machine


def trusted_proxies(app: ASGIApp) -> ASGIApp:
    """Uvicorn's middleware for the proxies of the settings, and nothing where there are none."""
    proxies = Settings.load().trusted_proxies
    if not proxies:
        return app
    return ProxyHeadersMiddleware(app, [str(network) for network in proxies])  # type: ignore[arg-type, return-value]
