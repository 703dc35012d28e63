"""A typed client of Gauntlet: image models served with their robustness. Needs only httpx and pydantic."""

from gauntlet_client.client import Client
from gauntlet_client.errors import ClientError, ModelNotReady, ReportNotDone, ServiceError

__all__ = ["Client", "ClientError", "ModelNotReady", "ReportNotDone", "ServiceError"]
