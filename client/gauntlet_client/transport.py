"""HTTP requests with retries, where a retry is safe."""

import time
from collections.abc import Callable
from typing import Any

import httpx

from gauntlet_client.errors import ClientError, refusal

BUSY = (429, 503)  # the service has done nothing: retried after a pause
PATIENCE = 30.0  # seconds; a longer Retry-After, as for a daily quota, is raised as an error instead


class Transport:
    """The connection to one service.

    Args:
        retries: how often a request is repeated if the service is busy or the connection breaks.
        pause: seconds before the first retry if the service sends no Retry-After; doubled for each further retry.
    """

    def __init__(
        self, client: httpx.Client, retries: int, pause: float, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._client, self._retries, self._pause, self._sleep = client, retries, pause, sleep

    def ask(
        self, method: str, path: str, *, repeatable: bool = True, patient: bool = True, **options: Any
    ) -> httpx.Response:
        """Send a request, with retries, and return its answer (status below 400).

        ``repeatable``: the request is idempotent, so it can be sent again if its answer was lost. ``patient``: retry if
        the service is busy.

        Raises:
            ServiceError: the service answered with an error.
            ClientError: there was no answer.
        """
        for attempt in range(self._retries + 1):
            last, pause = attempt == self._retries, self._pause * 2**attempt
            try:
                answer = self._client.request(method, path, **options)
            except httpx.TransportError as error:
                can_retry = repeatable or isinstance(error, httpx.ConnectError)
                if last or not can_retry:
                    where = f"{method} {self._client.base_url}{path}"
                    raise ClientError(f"{where}: {str(error) or type(error).__name__}") from error
            else:
                if answer.status_code < 400:
                    return answer
                pause = retry_after(answer, pause)
                if last or not patient or answer.status_code not in BUSY or pause > PATIENCE:
                    raise refusal(answer)
            self._sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    def close(self) -> None:
        self._client.close()


def retry_after(answer: httpx.Response, default: float) -> float:
    """Return the seconds of the header Retry-After, or the default."""
    try:
        return float(answer.headers["retry-after"])
    except (KeyError, ValueError):
        return default
