"""What is kept of every file that was tried."""

from gauntlet.artifacts.manifest import Frozen


class Opened(Frozen):
    """What came of one file: ``gradients`` as its manifest has them, or why it was ``refused``."""

    seconds: float
    peak: float  # MiB of the process that opened it, torch and ONNX Runtime included
    gradients: str | None
    refused: str | None


class Row(Frozen):
    """One file of one architecture."""

    library: str
    name: str
    side: int
    form: str  # float or int8
    megabytes: float | None  # with the files of its weights; None: there is no file
    opened: Opened | None
    failure: str | None  # why there is no file, or nothing came of it
