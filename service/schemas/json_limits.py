"""How much JSON is read: parsing holds the interpreter, so nobody is answered meanwhile."""

from service.errors import Code, ServiceError

LIMITS = {b",": (4_194_304, "values"), b"[": (262_144, "lists"), b"{": (10_000, "objects"), b":": (10_000, "names")}
"""How often each mark may stand in a body: 1,024 colour images of 32 x 32 as numbers have three million values in a
hundred thousand lists. What is inside of strings counts as well: base64 has none of the marks."""


class JsonLimits:
    """Of one body, as it comes."""

    def __init__(self) -> None:
        self._seen = dict.fromkeys(LIMITS, 0)

    def take(self, chunk: bytes) -> None:
        """Raises ServiceError once there is too much."""
        for mark, (most, what) in LIMITS.items():
            self._seen[mark] += chunk.count(mark)
            if self._seen[mark] > most:
                message = f"a body of JSON may hold {most:,} {what}; send images as PNG, or as bytes to /v2"
                raise ServiceError(Code.TOO_LARGE, message, limit=most)
