"""Bodies and queries, read by their models. Raises ServiceError where they are wrong."""

from collections.abc import Mapping
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from service.errors import Code, ServiceError, invalid

M = TypeVar("M", bound=BaseModel)


def read_json(model: type[M], body: bytes) -> M:
    """A body of JSON; an empty one is an empty object."""
    try:
        return model.model_validate_json(body or b"{}")
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        if problems[0]["type"] == "json_invalid":
            raise ServiceError(Code.MALFORMED, f"the body is not JSON: {problems[0]['msg']}") from error
        raise invalid(problems) from error


def read_query(model: type[M], query: Mapping[str, str]) -> M:
    """What stands behind the question mark of a path."""
    try:
        return model.model_validate(dict(query))
    except ValidationError as error:
        raise invalid(error.errors(include_url=False, include_context=False)) from error
