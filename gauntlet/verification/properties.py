"""Verification of a VNN-LIB property of an ONNX network: sat with a witness, unsat, unknown or timeout."""

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
"""Assumed rounding error of a float32 output, as a share of the largest output (or of 1, if that is larger): a
conjunction is excluded only if it fails by twice that."""
STARTS, STEPS = 8, 60  # starts and steps of the first search for a witness
MORE = 6  # factor of the starts in the second search, on the conjunctions that the bounds did not exclude
SHARE = 0.15  # share of the remaining time that the second search may take


@dataclass(frozen=True)
class Verdict:
    """An answer; if it is sat, with a flat ``witness`` (inputs, outputs). ``method`` decided, or was tried last."""

    answer: Answer
    method: str
    seconds: float
    witness: tuple[Array, Array] | None = None

    def text(self) -> str:
        """Return the verdict in the format of the competition (VNN-COMP): the answer, then the witness."""
        return self.answer if self.witness is None else f"{self.answer}\n{vnnlib.witness(*self.witness)}"


def verify(network: Path, prop: Path, seconds: float = 60.0, seed: int = 0) -> Verdict:
    """Decide whether some input satisfies the property in the file ``prop``, within ``seconds``.

    Raises Unboundable if the network has an operator without a rule, InvalidInput if the property cannot be used.
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
    search = {"judge": judge, "seed": seed, "starts": STARTS, "steps": STEPS}
    if find(network, region, goal, **search, deadline=deadline):  # type: ignore[arg-type]
        return sat("search")
    before = time.perf_counter()
    proof = exclude(network, region, goal, before + 0.5 * (deadline - before), ("crown", "alpha-crown"))
    if not proof.excluded:
        undecided = goal.at((~(proof.margins > 0)).nonzero().squeeze(1))
        until = time.perf_counter() + SHARE * (deadline - time.perf_counter())
        settings = {**search, "starts": STARTS * MORE, "seed": seed + 1}
        if find(network, region, undecided, **settings, deadline=until):  # type: ignore[arg-type]
            return sat("search")
        proof = exclude(network, region, undecided, deadline, judge=judge)
    if proof.found:
        return sat("branch-and-bound")
    timed_out = not proof.complete and time.perf_counter() >= deadline
    answer: Answer = "unsat" if proof.excluded else "timeout" if timed_out else "unknown"
    return Verdict(answer, proof.method, time.perf_counter() - start)


def _shaped(values: Array, network: Network) -> Tensor:
    return torch.from_numpy(values.copy()).view(1, *network.input_shape)


def _goal(case: Case, network: Network, largest: float) -> Goal:
    """Return the case's conjunctions, repeated to the length of the longest, the rounding error added to bounds."""
    longest = max(len(bounds) for _, bounds in case.conjunctions)
    rows = np.stack([np.resize(rows, (longest, rows.shape[1])) for rows, _ in case.conjunctions])
    bounds = np.stack([np.resize(bounds, longest) for _, bounds in case.conjunctions])
    slack = 2 * ROUNDING * max(1.0, largest) * np.abs(rows).max(axis=2, initial=0.0)
    shape = (*rows.shape[:2], *network.output_shape)
    return Goal(torch.from_numpy(rows).view(shape), torch.from_numpy(bounds + slack))


class OnnxJudge:
    """Evaluates points with ONNX Runtime and keeps the first one that satisfies the case: the witness."""

    def __init__(self, session: ort.InferenceSession, network: Network, case: Case) -> None:
        self._session, self._shape, self._case = session, network.input_shape, case
        self._lower, self._upper = _inside(case.lower, case.upper)
        self.witness: tuple[Array, Array] | None = None
        self.largest = 0.0  # largest absolute output so far

    def __call__(self, points: Tensor) -> bool:
        """Return whether one of the points (n, *input_shape), as float32 inside the box, satisfies a conjunction."""
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
    """Return the box rounded inwards to float32; where no float32 lies inside, the nearest one."""
    low, high = lower.astype(np.float32), upper.astype(np.float32)
    low = np.where(low < lower, np.nextafter(low, np.float32(np.inf)), low)
    high = np.where(high > upper, np.nextafter(high, np.float32(-np.inf)), high)
    empty, nearest = low > high, ((lower + upper) / 2).astype(np.float32)
    return np.where(empty, nearest, low), np.where(empty, nearest, high)
