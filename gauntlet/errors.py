"""Every error that Gauntlet raises on purpose; ``str(error)`` is fit for a user."""


class GauntletError(Exception):
    """Base of all of them."""


class ArtefactError(GauntletError):
    """A model folder or an evaluation set that must not be served: names the file and the reason."""


class InvalidInput(GauntletError):
    """A value that a caller gave is wrong. ``field`` names it, as a path like ``images.3``, where there is one."""

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class DeviceError(GauntletError):
    """The device that was demanded cannot be had."""


class ModelFailed(GauntletError):
    """Somebody's model, which runs in a process of its own, gave no answer: why."""


class DeadlineExceeded(GauntletError):
    """The time that a run was given is over."""


class BudgetExhausted(GauntletError):
    """An attack may not evaluate the model again; what it found so far is kept."""


class Cancelled(GauntletError):
    """Somebody asked for the run to end."""
