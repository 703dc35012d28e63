"""A verdict on a VNN-LIB property of an ONNX network: sat with a witness, unsat, unknown or timeout."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor

from gauntlet.bounds import onnx_reader
from gauntlet.bounds.network import Network
from gauntlet.bounds.output_property import Goal
from gauntlet.bounds.prover import exclude
from gauntlet.bounds.region import Region
from gauntlet.bounds.search import find
from gauntlet.errors import InvalidInput
from gauntlet.runtime.session import open_session
from gauntlet.verification import vnnlib
from gauntlet.verification.vnnlib import Array, Case

Answer = Literal["sat", "unsat", "unknown", "timeout"]

ROUNDING = 1e-6
"""An output computed in float32 is taken to lie within this times the largest one (at least one) of its exact value: a
conjunction is excluded only where it fails by twice that."""
STARTS, STEPS = 8, 60  # of the first search for a witness, and
MORE = 6  # times as many of the second, on what bounds have left
SHARE = 0.15  # of the time that the second search may take


@dataclass(frozen=True)
class Verdict:
    """``witness`` (inputs, outputs), flat, where the answer is sat. ``method``: what decided, or was last tried."""

    answer: Answer
    method: str
    seconds: float
    witness: tuple[Array, Array] | None = None

    def text(self) -> str:
        """In the competition's format: the answer, then the witness."""
        return self.answer if self.witness is None else f"{self.answer}\n{vnnlib.witness(*self.witness)}"


def verify(network: Path, prop: Path, seconds: float = 60.0, seed: int = 0) -> Verdict:
    """Decide whether some input satisfies a property, within so many seconds.

    Raises Unboundable where the network has a node without a rule, InvalidInput for a property that cannot be used.
    """
    start = time.perf_counter()
    deadline = start + seconds
    read = onnx_reader.read(network)
    inputs, outputs = (int(np.prod(shape)) for shape in (read.input_shape, read.output_shape))
    try:
        cases = vnnlib.parse(prop.read_text(), inputs, outputs)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{prop}: cannot be read ({error})") from error
    session = open_session(network)
    answer: Answer = "unsat"
    method = "empty"
    for number, case in enumerate(cases):
        until = time.perf_counter() + (deadline - time.perf_counter()) / (len(cases) - number)
        found = _decide(read, session, case, until, seed)
        if found.answer == "sat":
            return Verdict("sat", found.method, time.perf_counter() - start, found.witness)
        if found.answer != "unsat":
            answer = found.answer
        method = found.method
    return Verdict(answer, method, time.perf_counter() - start)


def _decide(network: Network, session: ort.InferenceSession, case: Case, deadline: float, seed: int) -> Verdict:
    start = time.perf_counter()
    judge = OnnxJudge(session, network, case)
    region = Region.box(*(_shaped(end, network) for end in (case.lower, case.upper)))

    def sat(method: str) -> Verdict:
        return Verdict("sat", method, time.perf_counter() - start, judge.witness)

    if judge(region.centre):
        return sat("centre")
    if any(len(bounds) == 0 for _, bounds in case.conjunctions):
        return Verdict("unknown", "centre", time.perf_counter() - start)
    goal = _goal(case, network, judge.largest)
    searched = {"judge": judge, "seed": seed, "starts": STARTS, "steps": STEPS}
    if find(network, region, goal, **searched, deadline=deadline):  # type: ignore[arg-type]
        return sat("search")
    before = time.perf_counter()
    proof = exclude(network, region, goal, before + 0.5 * (deadline - before), ("crown", "alpha-crown"))
    if not proof.excluded:
        left = goal.at((~(proof.margins > 0)).nonzero().squeeze(1))
        until = time.perf_counter() + SHARE * (deadline - time.perf_counter())
        more = {**searched, "starts": STARTS * MORE, "seed": seed + 1}
        if find(network, region, left, **more, deadline=until):  # type: ignore[arg-type]
            return sat("search")
        proof = exclude(network, region, left, deadline, judge=judge)
    if proof.found:
        return sat("branch-and-bound")
    late = not proof.complete and time.perf_counter() >= deadline
    answer: Answer = "unsat" if proof.excluded else "timeout" if late else "unknown"
    return Verdict(answer, proof.method, time.perf_counter() - start)


def _shaped(values: Array, network: Network) -> Tensor:
    return torch.from_numpy(values.copy()).view(1, *network.input_shape)


def _goal(case: Case, network: Network, largest: float) -> Goal:
    """The case's conjunctions, each made as long as the longest, their bounds raised by rounding."""
    most = max(len(bounds) for _, bounds in case.conjunctions)
    rows = np.stack([np.resize(rows, (most, rows.shape[1])) for rows, _ in case.conjunctions])
    bounds = np.stack([np.resize(bounds, most) for _, bounds in case.conjunctions])
    slack = 2 * ROUNDING * max(1.0, largest) * np.abs(rows).max(axis=2, initial=0.0)
    shape = (*rows.shape[:2], *network.output_shape)
    return Goal(torch.from_numpy(rows).view(shape), torch.from_numpy(bounds + slack))


class OnnxJudge:
    """Shows points to ONNX Runtime and holds its answers against the case: what it accepts is a witness."""

    def __init__(self, session: ort.InferenceSession, network: Network, case: Case) -> None:
        self._session, self._shape, self._case = session, network.input_shape, case
        self._lower, self._upper = _inside(case.lower, case.upper)
        self.witness: tuple[Array, Array] | None = None
        self.largest = 0.0  # output seen so far

    def __call__(self, points: Tensor) -> bool:
        """Points (n, *input_shape); True once one of them, as float32 inside the box, satisfies a conjunction."""
        for point in points.flatten(1).numpy():
            x = np.clip(point.astype(np.float32), self._lower, self._upper)
            name = self._session.get_inputs()[0].name
            y = self._session.run(None, {name: x.reshape(self._shape)})[0].reshape(-1).astype(np.float64)
            self.largest = max(self.largest, float(np.abs(y).max(initial=0.0)))
            if any((rows @ y <= bounds).all() for rows, bounds in self._case.conjunctions):
                self.witness = x.astype(np.float64), y
                return True
        return False


def _inside(lower: Array, upper: Array) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The box rounded inwards to float32; where no float32 lies inside, the nearest one."""
    low, high = lower.astype(np.float32), upper.astype(np.float32)
    low = np.where(low < lower, np.nextafter(low, np.float32(np.inf)), low)
    high = np.where(high > upper, np.nextafter(high, np.float32(-np.inf)), high)
    narrow, nearest = low > high, ((lower + upper) / 2).astype(np.float32)
    return np.where(narrow, nearest, low), np.where(narrow, nearest, high)
