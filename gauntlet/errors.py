"""Every error that Gauntlet raises on purpose; ``str(error)`` is fit for a user."""

LONGEST = 300  # characters of a foreign exception that are told


def escaped(text: str) -> str:
    r"""The text on one line: control characters, line breaks and marks that reorder text as ``\n``, ``\x1b``, ...

    Names in somebody's file would otherwise write lines of their own into a log, or drive a terminal.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def reason(error: BaseException) -> str:
    """What an exception of somebody else's says, on one line: its type and its words."""
    words = " ".join(str(error).split())
    return escaped(f"{type(error).__name__}: {words}" if words else type(error).__name__)[:LONGEST]


class GauntletError(Exception):
    """Base of all of them. The message may hold untrusted text: it is escaped here, once."""

    def __init__(self, message: str) -> None:
        super().__init__(escaped(message))


class ArtefactError(GauntletError):
    """A model folder or an evaluation set that must not be served: names the file and the reason."""


class InvalidInput(GauntletError):
    """A value that a caller gave is wrong. ``field`` names it, as a path like ``images.3``, where there is one."""

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


def refused(reason: str) -> InvalidInput:
    """The error for a file that is not taken; its field is ``file``."""
    return InvalidInput(f"the file is refused: {reason}", "file")


class DeviceError(GauntletError):
    """The device that was demanded cannot be had."""


class ModelFailed(GauntletError):
    """Somebody's model, which runs in a process of its own, gave no answer: why."""


class Unconfined(ModelFailed):
    """No process was started for it: the machine cannot confine one, and it must be confined."""


class DeadlineExceeded(GauntletError):
    """The time that a run was given is over."""


class BudgetExhausted(GauntletError):
    """An attack may not evaluate the model again; what it found so far is kept."""


class Cancelled(GauntletError):
    """Somebody asked for the run to end."""
