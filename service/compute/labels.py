"""The labels of a request."""

import torch
from torch import Tensor

from service.errors import Code, ServiceError


def given_labels(values: list[int] | None, n: int, classes: int, field: str) -> Tensor | None:
    """As a tensor (n,); None where none were given. Raises ServiceError unless there is a class for each image."""
    if values is None:
        return None
    if len(values) != n:
        raise ServiceError(Code.INVALID, f"{field}: {len(values)} of them for {n} images", field=field)
    for i, value in enumerate(values):
        if value >= classes:
            message = f"{field}.{i}: the model has the classes 0 to {classes - 1}"
            raise ServiceError(Code.INVALID, message, field=f"{field}.{i}")
    return torch.tensor(values)
