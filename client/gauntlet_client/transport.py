"""One request, repeated where nothing is lost by it."""

import time
from collections.abc import Callable
from typing import Any

import httpx

from gauntlet_client.errors import ClientError, refusal

BUSY = (429, 503)  # nothing was done: asked again after a pause
PATIENCE = 30.0  # seconds; who is told to wait longer, as for tomorrow's quota, is told so


class Transport:
    """The connection to one service.

    Args:
        retries: how often a request is repeated that met a busy service or a broken connection.
        pause: seconds before the first repetition where the service does not say; then twice as long each time.
    """

    def __init__(
        self, client: httpx.Client, retries: int, pause: float, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._client, self._retries, self._pause, self._sleep = client, retries, pause, sleep

    def ask(
        self, method: str, path: str, *, repeatable: bool = True, patient: bool = True, **options: Any
    ) -> httpx.Response:
        """The answer, below 400.

        ``repeatable``: the same request twice is as good as once, so a lost answer does no harm. ``patient``: a busy
        service is asked again.

        Raises:
            ServiceError: the service refused.
            ClientError: there was no answer.
        """
        for attempt in range(self._retries + 1):
            last, pause = attempt == self._retries, self._pause * 2**attempt
            try:
                answer = self._client.request(method, path, **options)
            except httpx.TransportError as error:
                again = repeatable or isinstance(error, httpx.ConnectError)
                if last or not again:
                    where = f"{method} {self._client.base_url}{path}"
                    raise ClientError(f"{where}: {str(error) or type(error).__name__}") from error
            else:
                if answer.status_code < 400:
                    return answer
                pause = told(answer, pause)
                if last or not patient or answer.status_code not in BUSY or pause > PATIENCE:
                    raise refusal(answer)
            self._sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    def close(self) -> None:
        self._client.close()


def told(answer: httpx.Response, otherwise: float) -> float:
    """Seconds after which the service wants to be asked again."""
    try:
        return float(answer.headers["retry-after"])
    except (KeyError, ValueError):
        return otherwise
