"""The options of a run of the benchmark."""

from pathlib import Path

from gauntlet.artifacts.manifest import Frozen


class Options(Frozen):
    """Options from the command line; None: the default of the part."""

    model: str
    adversarial: tuple[str, ...]
    out: Path
    n: int | None
    skip: int
    slow_n: int
    steps: int | None
    rounds: int
    seed: int
    seeds: int
    peer_seeds: int | None
    batches: tuple[int, ...]
    shares: tuple[float, ...]
    eps: float | None
