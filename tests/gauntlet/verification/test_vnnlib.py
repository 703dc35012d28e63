"""Properties in VNN-LIB."""

import numpy as np
import pytest

from gauntlet.errors import InvalidInput
from gauntlet.verification import vnnlib

DECLARED = """; a comment (with a parenthesis
(declare-const X_0 Real)
(declare-const X_1 Real)
(declare-fun Y_0 () Real)
(declare-const Y_1 Real)
"""
BOX = """
(assert (>= X_0 -0.5)) (assert (<= X_0 1e-1))
(assert (and (>= X_1 (- 2.0)) (<= X_1 (+ 1 2))))
"""


def parse(text):
    return vnnlib.parse(DECLARED + text, 2, 2)


def test_a_box_and_a_disjunction():
    [case] = parse(BOX + "(assert (or (and (>= Y_0 Y_1)) (and (<= Y_0 0.5) (> Y_1 (* 2.0 Y_0)))))")
    assert case.lower.tolist() == [-0.5, -2.0]
    assert case.upper.tolist() == [0.1, 3.0]
    (rows, bounds), (more, others) = case.conjunctions
    assert rows.tolist() == [[-1.0, 1.0]]
    assert bounds.tolist() == [0.0]
    assert more.tolist() == [[1.0, 0.0], [2.0, -1.0]]
    assert others.tolist() == [0.5, 0.0]


def test_assertions_are_all_meant():
    [case] = parse(BOX + "(assert (<= Y_0 1)) (assert (or (<= Y_1 2) (>= (- Y_1 Y_0) 3)))")
    assert [bounds.tolist() for _, bounds in case.conjunctions] == [[1.0, 2.0], [1.0, -3.0]]


def test_each_box_of_a_disjunction_is_a_case_and_an_empty_one_is_none():
    text = """(assert (or
      (and (>= X_0 0) (<= X_0 1) (>= X_1 0) (<= X_1 1) (<= Y_0 0))
      (and (>= X_0 2) (<= X_0 3) (>= X_1 0) (<= X_1 1) (<= Y_0 0))
      (and (>= X_0 5) (<= X_0 4) (>= X_1 0) (<= X_1 1) (<= Y_0 0))
      (and (>= X_0 2) (<= X_0 3) (>= X_1 0) (<= X_1 1) (<= Y_1 0))))"""
    cases = parse(text)
    assert [case.lower.tolist() for case in cases] == [[0.0, 0.0], [2.0, 0.0]]
    assert [len(case.conjunctions) for case in cases] == [1, 2]


def test_an_equation_is_two_inequalities():
    [case] = parse("(assert (= X_0 0.25)) (assert (>= X_1 0)) (assert (<= X_1 1)) (assert (= Y_0 Y_1))")
    assert case.lower[0] == case.upper[0] == 0.25
    assert case.conjunctions[0][0].tolist() == [[1.0, -1.0], [-1.0, 1.0]]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("(assert (<= X_0 1)", "not closed"),
        ("(assert (<= X_0 1)))", "too many"),
        ("(assert (<= X_2 1))" + BOX, "no X_2"),
        ("(assert (<= X_0 1))", "no lower or no upper bound"),
        (BOX + "(assert (<= (+ X_0 X_1) 1))", "several inputs"),
        (BOX + "(assert (<= X_0 Y_1))", "inputs and outputs"),
        (BOX + "(assert (<= (* Y_0 Y_1) 1))", "not linear"),
        (BOX + "(assert (not (<= Y_0 1)))", "no rule for"),
        (BOX + "(assert (<= Y_0 one))", "neither a number"),
        (BOX + "(minimize Y_0)", "no rule for"),
        (BOX + "(assert " + "(and " * 200 + ")" * 201, "deep"),
        (BOX + "(assert (or (<= Y_0 1) (<= Y_0 2)))" * 20, "more than 100000"),
        ("", "no lower or no upper bound"),
    ],
)
def test_what_is_no_such_property_is_refused_with_the_reason(text, reason):
    with pytest.raises(InvalidInput, match=reason):
        parse(text)


def test_a_property_of_another_network_is_refused():
    with pytest.raises(InvalidInput, match="the network has 3 inputs and 2 outputs; the property declares 2 and 2"):
        vnnlib.parse(DECLARED + BOX, 3, 2)


def test_the_witness_has_the_format_of_the_competition():
    text = vnnlib.witness(np.array([0.5, -1.0]), np.array([2.0]))
    assert text == "((X_0 0.5)\n(X_1 -1.0)\n(Y_0 2.0))"
