"""One logger for the service, in lines of its own: BentoML's carry trace ids that nobody asked for."""

import logging
import sys

LOGGER = logging.getLogger("gauntlet.service")


def configure() -> None:
    """Write to standard output. Asking again changes nothing."""
    if not LOGGER.handlers:
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        LOGGER.addHandler(handler)
        LOGGER.setLevel(logging.INFO)
        LOGGER.propagate = False
