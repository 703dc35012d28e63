"""Splitting a report into shards that several workers can measure in parallel, and joining their results into cells.

The request alone determines the shards, and a shard is measured exactly as that part of its cell is: neither the number
of workers nor the number of shards changes a result.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby

from gauntlet.norms import NORMS
from gauntlet.report.measure import EXAMPLES, example_size
from gauntlet.report.plan import cells
from gauntlet.report.records import Count, Record
from gauntlet.report.schema import AttackMeasurement, Cell, CellResult, ReportRequest

UNIT = 128
"""Images that stay together: whole chunks of ``measure`` and of the referee, so that batches are the same."""

PARTS = 64
"""The cell of an attack is split if it costs more than 1 / PARTS of the report. This limits what is lost when a worker
is killed, and how long the other workers are idle while the last one finishes."""


class Shard(Record):
    """The unit of durable work: a cell on the images from ``first`` up to, not including, ``last``."""

    cell: Cell
    first: Count
    last: Count
    cost: float

    @property
    def key(self) -> str:
        """A name that is unique among the shards of the request."""
        return f"{self.cell.key}[{self.first}:{self.last}]"


def shards(request: ReportRequest, unit: int = UNIT) -> list[Shard]:
    """Return the shards of all cells, in order. Only attacks are split: the other cells need all images together."""
    plan = cells(request)
    share = sum(cell.cost for cell in plan) / PARTS
    return [shard for cell in plan for shard in _split(cell, request.n, share, unit)]


def _split(cell: Cell, n: int, share: float, unit: int) -> Iterator[Shard]:
    each = cell.cost / n
    size = unit * max(1, int(share / each / unit)) if cell.kind == "attack" else n
    for first in range(0, n, size):
        last = min(first + size, n)
        yield Shard(cell=cell, first=first, last=last, cost=each * (last - first))


def join(results: Sequence[CellResult]) -> list[CellResult]:
    """Return the results of whole cells, from the results of all their shards in order."""
    return [_joined(list(parts)) for _, parts in groupby(results, key=lambda result: result.cell)]


def _joined(parts: Sequence[CellResult]) -> CellResult:
    if len(parts) == 1:
        return parts[0]
    attacks = [part.attack for part in parts if part.attack is not None]
    assert len(attacks) == len(parts)  # only attacks are split
    attack = AttackMeasurement(
        broken=[index for part in attacks for index in part.broken],
        labels=[label for part in attacks for label in part.labels],
        distances={norm: [value for part in attacks for value in part.distances[norm]] for norm in NORMS},
        transfer={name: [label for part in attacks for label in part.transfer[name]] for name in attacks[0].transfer},
        queries=sum(part.queries for part in attacks),
        by=sum((Counter(part.by) for part in attacks), Counter()),
        examples=[],
    )
    norm = parts[0].cell.norm
    assert norm is not None
    sizes = dict(zip(attack.broken, map(example_size, attack.distances[norm]), strict=True))
    examples = [example for part in attacks for example in part.examples]
    best = sorted(examples, key=lambda example: (sizes[example.index], example.index))[:EXAMPLES]
    return CellResult(
        cell=parts[0].cell,
        n=sum(part.n for part in parts),
        seconds=round(sum(part.seconds for part in parts), 3),
        attack=attack.model_copy(update={"examples": best}),
    )
