"""Groups of errors that endpoints of a kind answer with."""

from service.endpoint import COMMON_ERRORS
from service.errors import Code

BODY = (*COMMON_ERRORS, Code.MALFORMED, Code.TOO_LARGE, Code.UNSUPPORTED_MEDIA_TYPE, Code.INVALID)
JOBS = (*COMMON_ERRORS, Code.JOBS_UNAVAILABLE)
MODEL = (
    *BODY,
    Code.UNKNOWN_MODEL,
    Code.WRONG_KIND,
    Code.MODEL_FAILED,
    Code.NOT_READY,
    Code.JOBS_UNAVAILABLE,
    Code.STORE_UNAVAILABLE,
)
COSTLY = (Code.TOO_EXPENSIVE, Code.TOO_BUSY, Code.DEADLINE_EXCEEDED)
UPLOAD = (
    *BODY,
    Code.NAME_TAKEN,
    Code.UPLOADS_FULL,
    Code.TOO_BUSY,
    Code.NOT_READY,
    Code.JOBS_UNAVAILABLE,
    Code.STORE_UNAVAILABLE,
)
UNKNOWN = (*JOBS, Code.UNKNOWN_REPORT)
