"""Verdicts on properties, from the files to the answer."""

import re
import time

import numpy as np
import onnx
import pytest
import torch

from gauntlet.__main__ import main
from gauntlet.bounds import onnx_reader
from gauntlet.verification import properties
from tests.gauntlet.bounds import graphs

DECLARED = "".join(f"(declare-const {name} Real)\n" for name in ("X_0", "X_1", "Y_0", "Y_1"))
BOX = "".join(f"(assert (>= X_{i} -1.0)) (assert (<= X_{i} 1.0))\n" for i in (0, 1))


@pytest.fixture
def network(tmp_path):
    path = tmp_path / "network.onnx"
    onnx.save(graphs.dense([2, 8, 8, 2], 5), path)
    return path


def values(path):
    """Y_0 - Y_1 over a dense grid of the box."""
    grid = torch.cartesian_prod(*[torch.linspace(-1, 1, 300, dtype=torch.float64)] * 2)[:, None]
    y = onnx_reader.read(path)(grid).flatten(1)
    return y[:, 0] - y[:, 1]


def ask(path, formula, seconds=60.0):
    prop = path.with_suffix(".vnnlib")
    prop.write_text(DECLARED + BOX + formula)
    return properties.verify(path, prop, seconds)


def least(bound):
    return f"(assert (<= (- Y_0 Y_1) {bound!r}))"


def test_sat_with_a_witness_that_onnx_runtime_confirms(network):
    verdict = ask(network, least(float(values(network).min()) + 0.01))
    assert verdict.answer == "sat"
    x, y = verdict.witness
    assert (np.abs(x) <= 1).all()
    assert np.allclose(graphs.served(onnx.load(network), x.reshape(1, 1, 2))[0], y)
    assert y[0] - y[1] <= float(values(network).min()) + 0.01
    assert re.fullmatch(r"sat\n\(\(X_0 [^ ]+\)\n\(X_1 [^ ]+\)\n\(Y_0 [^ ]+\)\n\(Y_1 [^ ]+\)\)", verdict.text())


def test_unsat_close_to_the_minimum(network):
    verdict = ask(network, least(float(values(network).min()) - 0.05))
    assert (verdict.answer, verdict.text()) == ("unsat", "unsat")


def test_never_unsat_within_the_rounding_of_float32(network):
    assert ask(network, least(float(values(network).min()) - 1e-8), seconds=3.0).answer != "unsat"


def test_all_disjuncts_must_be_excluded(network):
    low, high = float(values(network).min()), float(values(network).max())
    both = f"(assert (or (<= (- Y_0 Y_1) {low - 0.1!r}) (>= (- Y_0 Y_1) {{}})))"
    assert ask(network, both.format(repr(high + 0.1))).answer == "unsat"
    assert ask(network, both.format(repr(high - 0.1))).answer == "sat"


def test_a_conjunction_must_hold_at_one_point(network):
    """Each half can be had, the two together cannot."""
    middle = float(values(network).mean())
    halves = f"(assert (and (<= (- Y_0 Y_1) {middle - 0.2!r}) (>= (- Y_0 Y_1) {middle + 0.2!r})))"
    assert ask(network, halves, seconds=3.0).answer in ("unknown", "timeout", "unsat")


def test_an_empty_box_and_a_missing_formula(network):
    assert ask(network, "(assert (<= X_0 -2.0)) (assert (<= Y_0 0.0))").answer == "unsat"
    assert ask(network, "").answer == "sat"


def test_time_ends_the_search(network):
    start = time.process_time()
    verdict = ask(network, least(float(values(network).min()) - 2e-6), seconds=0.5)
    assert verdict.answer in ("timeout", "unknown")
    assert time.process_time() - start < 20


def test_the_command_prints_the_answer(network, capsys):
    prop = network.with_suffix(".vnnlib")
    prop.write_text(DECLARED + BOX + least(-1e6))
    assert main(["verify", str(network), str(prop), "--seconds", "20"]) == 0
    assert capsys.readouterr().out == "unsat\n"


def test_the_command_names_what_it_cannot_use(network, capsys):
    assert main(["verify", str(network), "absent.vnnlib"]) == 2
    assert "absent.vnnlib" in capsys.readouterr().err
    assert main(["verify", "absent.onnx", "absent.vnnlib"]) == 2
    assert "absent.onnx" in capsys.readouterr().err
