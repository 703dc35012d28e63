"""A hook of schemathesis, which imports it: every generated case comes from a client of its own.

The service meters guessed keys by address, and schemathesis guesses with nearly every request.
"""

import ipaddress
import itertools
from typing import Any

import schemathesis

FIRST = int(ipaddress.ip_address("10.0.0.1"))
_numbers = itertools.count()


@schemathesis.hook  # type: ignore[untyped-decorator]  # it is in an environment of its own
def before_call(context: Any, case: Any, kwargs: Any) -> None:  # noqa: ARG001  names of the interface
    address = ipaddress.ip_address(FIRST + next(_numbers))
    case.headers = {**(case.headers or {}), "X-Forwarded-For": str(address)}
