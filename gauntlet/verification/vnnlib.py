"""Parser of VNN-LIB properties, in the dialect of the competition VNN-COMP: a box of inputs, a formula on the outputs.

``X_i`` and ``Y_i`` are the flattened input and output. Assertions are and/or over linear inequalities; a single
inequality has inputs or outputs, not both. The verifier searches for an assignment that satisfies all assertions: the
property holds if there is none.
"""

import itertools
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gauntlet.errors import InvalidInput

Array = NDArray[np.float64]
MAX_CONJUNCTIONS = 100_000  # limit of the disjunctive normal form
MAX_DEPTH = 100  # limit of nested parentheses
TOKEN = re.compile(r"[()]|[^\s();]+|;[^\n]*")
VARIABLE = re.compile(r"([XY])_(\d+)")
DECLARATION = ("declare-const", "declare-fun")


@dataclass(frozen=True)
class Inequality:
    """The inequality: sum of coefficients times variables (by name) + constant <= 0."""

    coefficients: dict[str, float]
    constant: float


@dataclass(frozen=True)
class Case:
    """A box of inputs, ``lower`` to ``upper`` (n,), and conjunctions (rows @ y <= bounds) on the output y.

    The case is satisfied by an input whose output satisfies one of ``conjunctions``, each a pair of rows (S, outputs)
    and bounds (S,). A conjunction without inequalities is satisfied by any input.
    """

    lower: Array
    upper: Array
    conjunctions: tuple[tuple[Array, Array], ...]


def parse(text: str, inputs: int, outputs: int) -> tuple[Case, ...]:
    """Return the cases of a property of a network with so many inputs and outputs. Raises InvalidInput."""
    declared: set[str] = set()
    formula: list[list[Inequality]] = [[]]
    for expression in _expressions(text):
        match expression:
            case [head, str(name), *_] if head in DECLARATION:
                declared.add(name)
            case ["assert", body]:
                formula = _both(formula, _cases(body))
            case ["set-logic" | "set-info" | "check-sat" | "exit" | "get-model", *_]:
                pass
            case _:
                raise InvalidInput(f"no rule for {_show(expression)} in a property")
    expected = {f"X_{i}" for i in range(inputs)} | {f"Y_{i}" for i in range(outputs)}
    if declared != expected:
        raise InvalidInput(
            f"the network has {inputs} inputs and {outputs} outputs; the property declares "
            f"{sum(name.startswith('X_') for name in declared)} and {sum(name.startswith('Y_') for name in declared)}"
        )
    return _grouped(formula, inputs, outputs)


def _expressions(text: str) -> Iterator[Any]:
    """Yield each S-expression of the text as nested lists of words."""
    stack: list[list[Any]] = [[]]
    for word in TOKEN.findall(text):
        if word.startswith(";"):
            continue
        if word == "(":
            stack.append([])
            if len(stack) > MAX_DEPTH:
                raise InvalidInput(f"parentheses in the property are nested more than {MAX_DEPTH} deep")
        elif word == ")":
            if len(stack) == 1:
                raise InvalidInput("the property has one closing parenthesis too many")
            done = stack.pop()
            stack[-1].append(done)
        else:
            stack[-1].append(word)
    if len(stack) > 1:
        raise InvalidInput("a parenthesis is not closed in the property")
    yield from stack[0]


def _cases(body: Any) -> list[list[Inequality]]:
    """Return a formula in disjunctive normal form: a list of conjunctions."""
    match body:
        case ["and", *parts]:
            found: list[list[Inequality]] = [[]]
            for part in parts:
                found = _both(found, _cases(part))
            return found
        case ["or", *parts]:
            return [case for part in parts for case in _cases(part)]
        case ["<=" | "<" | ">=" | ">" as sign, left, right]:
            difference = _subtract(_linear(left), _linear(right))
            return [[difference if sign[0] == "<" else _scaled(difference, -1.0)]]
        case ["=", left, right]:
            difference = _subtract(_linear(left), _linear(right))
            return [[difference, _scaled(difference, -1.0)]]
        case _:
            raise InvalidInput(f"no rule for {_show(body)} in an assertion")


def _both(first: list[list[Inequality]], second: list[list[Inequality]]) -> list[list[Inequality]]:
    """Return the conjunction of two formulas in disjunctive normal form, in that form."""
    if len(first) * len(second) > MAX_CONJUNCTIONS:
        raise InvalidInput(f"the property has more than {MAX_CONJUNCTIONS} conjunctions")
    return [a + b for a, b in itertools.product(first, second)]


def _linear(term: Any) -> Inequality:
    """Parse a linear expression, returned as the left side of an inequality."""
    match term:
        case str() if VARIABLE.fullmatch(term):
            return Inequality({term: 1.0}, 0.0)
        case str():
            try:
                return Inequality({}, float(term))
            except ValueError as error:
                raise InvalidInput(f"{term} is neither a number nor a variable X_i or Y_i") from error
        case ["+", first, *rest]:
            total = _linear(first)
            for part in rest:
                total = _subtract(total, _scaled(_linear(part), -1.0))
            return total
        case ["-", only]:
            return _scaled(_linear(only), -1.0)
        case ["-", first, *rest]:
            total = _linear(first)
            for part in rest:
                total = _subtract(total, _linear(part))
            return total
        case ["*", left, right]:
            one, other = _linear(left), _linear(right)
            if one.coefficients and other.coefficients:
                raise InvalidInput(f"{_show(term)} is not linear")
            return _scaled(one, other.constant) if one.coefficients else _scaled(other, one.constant)
        case _:
            raise InvalidInput(f"no rule for {_show(term)} in an inequality")


def _scaled(inequality: Inequality, factor: float) -> Inequality:
    return Inequality({n: factor * c for n, c in inequality.coefficients.items()}, factor * inequality.constant)


def _subtract(left: Inequality, right: Inequality) -> Inequality:
    coefficients = defaultdict(float, left.coefficients)
    for name, value in right.coefficients.items():
        coefficients[name] -= value
    return Inequality({n: c for n, c in coefficients.items() if c}, left.constant - right.constant)


def _grouped(formula: list[list[Inequality]], inputs: int, outputs: int) -> tuple[Case, ...]:
    """Group the conjunctions by their input box into cases; drop those with an empty box."""
    boxes: dict[tuple[bytes, bytes], list[tuple[Array, Array]]] = {}
    for conjunction in formula:
        lower, upper = np.full(inputs, -np.inf), np.full(inputs, np.inf)
        rows, bounds = [], []
        for inequality in conjunction:
            kinds = {name[0] for name in inequality.coefficients}
            if kinds == {"X"}:
                _limit(inequality, lower, upper)
            elif "X" in kinds:
                raise InvalidInput("an inequality mixes inputs and outputs")
            else:
                row = np.zeros(outputs)
                for name, value in inequality.coefficients.items():
                    row[_place(name, outputs)] = value
                rows.append(row)
                bounds.append(-inequality.constant)
        if not (np.isfinite(lower) & np.isfinite(upper)).all():
            raise InvalidInput("an input has no lower or no upper bound")
        if (lower <= upper).all():
            found = np.array(rows).reshape(-1, outputs), np.array(bounds)
            boxes.setdefault((lower.tobytes(), upper.tobytes()), []).append(found)
    return tuple(Case(np.frombuffer(low), np.frombuffer(high), tuple(found)) for (low, high), found in boxes.items())


def _limit(inequality: Inequality, lower: Array, upper: Array) -> None:
    if len(inequality.coefficients) != 1:
        raise InvalidInput("an inequality has several inputs; only bounds of single inputs are supported")
    ((name, factor),) = inequality.coefficients.items()
    place, value = _place(name, len(lower)), -inequality.constant / factor
    if factor > 0:
        upper[place] = min(upper[place], value)
    else:
        lower[place] = max(lower[place], value)


def _place(name: str, count: int) -> int:
    place = int(name[2:])
    if place >= count:
        raise InvalidInput(f"there is no {name}; the last is {name[0]}_{count - 1}")
    return place


def _show(expression: Any) -> str:
    text = f"({' '.join(map(_show, expression))})" if isinstance(expression, list) else str(expression)
    return text if len(text) <= 60 else f"{text[:57]}..."


def witness(x: Array, y: Array) -> str:
    """Return an assignment in the format of VNN-COMP: ((X_0 0.5) ... (Y_0 1.25) ...)."""
    pairs = [f"(X_{i} {v!r})" for i, v in enumerate(map(float, x))] + [
        f"(Y_{i} {v!r})" for i, v in enumerate(map(float, y))
    ]
    return f"({chr(10).join(pairs)})"
