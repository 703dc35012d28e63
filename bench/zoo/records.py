"""The records of exported and opened files."""

from gauntlet.artifacts.manifest import Frozen


class Opened(Frozen):
    """The result of opening one file: ``gradients`` as in its manifest, or why it was ``refused``."""

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
    megabytes: float | None  # including external weight files; None: there is no file
    opened: Opened | None
    failure: str | None  # why there is no file, or why opening it crashed
