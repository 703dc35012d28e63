"""The errors that Gauntlet raises deliberately; ``str(error)`` can be shown to a user."""

LONGEST = 300  # characters of a foreign exception that are reported, at most


def escaped(text: str) -> str:
    r"""Return the text on one line: control characters, line breaks and bidi marks become ``\n``, ``\x1b``, ...

    Otherwise names in an uploaded file could forge log lines or send control sequences to a terminal.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def reason(error: BaseException) -> str:
    """Return the type and message of a foreign exception on one line, escaped and truncated to LONGEST."""
    words = " ".join(str(error).split())
    return escaped(f"{type(error).__name__}: {words}" if words else type(error).__name__)[:LONGEST]


class GauntletError(Exception):
    """Base class of all Gauntlet errors. The message may contain untrusted text: it is escaped here, once."""

    def __init__(self, message: str) -> None:
        super().__init__(escaped(message))


class ArtefactError(GauntletError):
    """A model folder or evaluation set is invalid and must not be served. The message names the file and the reason."""


class InvalidInput(GauntletError):
    """An argument or request field is invalid. ``field`` names it, as a path like ``images.3``, if there is one."""

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


def refused(reason: str) -> InvalidInput:
    """Return the error for a rejected file; its field is ``file``."""
    return InvalidInput(f"the file is refused: {reason}", "file")


class DeviceError(GauntletError):
    """The requested device is not available."""


class ModelFailed(GauntletError):
    """A user's model, which runs in a child process, returned no result. The message gives the reason."""


class Unconfined(ModelFailed):
    """No child process was started: it must be confined (sandboxed), and this machine cannot confine it."""


class DeadlineExceeded(GauntletError):
    """A run exceeded its deadline."""


class BudgetExhausted(GauntletError):
    """An attack has used up its budget of model evaluations or time; the successes so far are kept."""


class Cancelled(GauntletError):
    """The run was cancelled."""
