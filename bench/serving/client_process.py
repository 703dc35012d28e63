"""A client in a process of its own: it shares no interpreter with the one that measures."""

import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def beside(client: Callable[..., None], *arguments: Any) -> Iterator[None]:
    """While another process runs ``client(*arguments, over, asked)``, once it has asked for the first time.

    It is to count in the shared value ``asked`` what it has done, and to return when the event ``over`` is set. Raises
    RuntimeError where it failed or did nothing.
    """
    context = multiprocessing.get_context("spawn")
    over, asked = context.Event(), context.Value("i", 0)
    process = context.Process(target=client, args=(*arguments, over, asked))
    process.start()
    try:
        while not asked.value and process.is_alive():
            time.sleep(0.1)
        yield
    finally:
        over.set()
        process.join()
    if process.exitcode or not asked.value:
        raise RuntimeError(f"{client.__name__} has failed, or was never answered")
