"""A hook, imported by schemathesis, that gives every generated case a client address of its own.

The service limits guessed keys by address, and schemathesis sends wrong keys in nearly every request.
"""

import ipaddress
import itertools
from typing import Any

import schemathesis

FIRST = int(ipaddress.ip_address("10.0.0.1"))
_numbers = itertools.count()


@schemathesis.hook  # type: ignore[untyped-decorator]  # schemathesis is installed in an environment of its own
def before_call(context: Any, case: Any, kwargs: Any) -> None:  # noqa: ARG001  parameter names are the interface's
    address = ipaddress.ip_address(FIRST + next(_numbers))
    case.headers = {**(case.headers or {}), "X-Forwarded-For": str(address)}
