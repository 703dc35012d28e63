"""A client in a process of its own, so that it does not share an interpreter with the process that measures."""

import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def beside(client: Callable[..., None], *arguments: Any) -> Iterator[None]:
    """Run ``client(*arguments, over, asked)`` in another process during the block, which waits for its first request.

    The client must count its requests in the shared value ``asked``, and return when the event ``over`` is set. Raises
    RuntimeError if it failed or sent no request.
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
