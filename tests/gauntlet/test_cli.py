"""The command line, as a user types it."""

import json
import re
import shlex

import numpy as np
import pytest

from gauntlet.__main__ import main
from gauntlet.report.page import command
from gauntlet.report.schema import Report
from tests import tiny


@pytest.fixture
def root(tmp_path):
    tiny.linear(tmp_path / "artifacts" / "tiny-a")
    tiny.convolutional(tmp_path / "artifacts" / "tiny-b")
    tiny.generator(tmp_path / "artifacts" / "tiny-vae")
    tiny.evalset(tmp_path / "evalsets" / "tiny.npz")
    return tmp_path


def run(root, words):
    return main(["--root", str(root), "--device", "cpu", *shlex.split(words)])


def test_models(root, capsys):
    assert run(root, "models") == 0
    printed = capsys.readouterr().out
    assert "tiny-b\tclassifier\tLipschitz constant 2.483" in printed
    assert "tiny-vae\tgenerator\t4 latent dimensions" in printed


def test_attack(root, capsys):
    assert run(root, "attack tiny-a pgd --norm linf --eps 3/10 --n 20") == 0
    printed = capsys.readouterr().out
    assert "robust accuracy   0.0000" in printed
    assert "first 20 images" in printed


def test_a_minimum_norm_attack_is_bound_by_no_eps(root, capsys):
    assert run(root, "attack tiny-a ddn --n 4") == 0
    assert "ddn on tiny-a, l2 any distance, first 4 images" in capsys.readouterr().out


def test_an_interrupted_command_says_so_in_one_line(root, monkeypatch, capsys):
    def interrupt(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("gauntlet.referee.run", interrupt)
    assert run(root, "attack tiny-a ddn --n 4") == 130
    assert capsys.readouterr().err == "gauntlet: interrupted\n"


def test_a_failed_attack_counts_as_infinite_in_the_printed_median(root, capsys):
    assert run(root, "attack tiny-a pgd --norm l2 --eps 1e-6 --n 20") == 0
    assert "median l2         –" in capsys.readouterr().out


def test_the_median_is_of_the_norm_attacked_in(root, capsys):
    assert run(root, "attack tiny-a pgd --norm linf --eps 0.1 --n 8") == 0
    assert 0 < float(re.search(r"median linf +(\S+)", capsys.readouterr().out)[1]) <= 0.1


def test_progress_in_a_log_comes_in_lines(root, monkeypatch, capsys):
    monkeypatch.setattr("gauntlet.__main__.LOGGED", 0.0)
    monkeypatch.setattr("gauntlet.__main__.SETTLED", 0.0)
    assert run(root, "report --models tiny-a --n 4 --attacks pgd --threats linf=0.1") == 0
    assert len(re.findall(r"report +\d+ % .* to go *\n", capsys.readouterr().err)) > 2


def test_an_attack_takes_parameters(root, capsys):
    assert run(root, "attack tiny-a fmn --norm linf --n 8 --params steps=1 targets=1") == 0
    few = capsys.readouterr().out
    assert run(root, "attack tiny-a fmn --norm linf --n 8 --params steps=100") == 0
    nearer, farther = (float(re.search(r"median linf +(\S+)", text)[1]) for text in (capsys.readouterr().out, few))
    assert nearer < farther


def test_report_and_compare(root, tmp_path, capsys):
    out = f"--out {tmp_path}/a.json --out {tmp_path}/a.html --smoothing sigma=0.1 samples=200 images=4"
    assert run(root, f"report --models tiny-a tiny-b --n 12 --threats l2=0.1 linf=0.02 {out}") == 0
    assert "The figures can be believed" in capsys.readouterr().out
    made = Report.model_validate_json((tmp_path / "a.json").read_bytes())
    assert (tmp_path / "a.html").read_text().startswith("<!doctype html>")
    assert run(root, f"compare {tmp_path}/a.json {tmp_path}/a.json") == 0
    worse = json.loads((tmp_path / "a.json").read_text())
    assert made.models[0].clean.value > 0.02
    assert made.models[0].smoothed.accuracy.n == 4
    worse["models"][0]["clean"]["value"] = 0.0
    (tmp_path / "b.json").write_text(json.dumps(worse))
    assert run(root, f"compare {tmp_path}/a.json {tmp_path}/b.json") == 1
    assert "clean accuracy fell from" in capsys.readouterr().out
    assert run(root, f"compare {tmp_path}/b.json {tmp_path}/a.json") == 0
    assert "clean accuracy rose from 0.00 %" in capsys.readouterr().out
    worse["models"][0]["checks"].pop()
    (tmp_path / "b.json").write_text(json.dumps(worse))
    assert run(root, f"compare {tmp_path}/a.json {tmp_path}/b.json") == 2
    assert "the second report does not have tiny-a: " in capsys.readouterr().err
    assert shlex.split(command(made))[3] == "report"
    assert main(["--root", str(root), *shlex.split(command(made))[3:]]) == 0  # the page's command repeats it


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("attack nobody pgd --eps 1", "no model is called 'nobody'"),
        ("attack tiny-vae pgd --eps 1", "is a generator"),
        ("attack tiny-a pgd --n 5", "needs eps"),
        ("attack tiny-a ddn --n 5 --params steps", "--params steps: write it as FIELD=VALUE"),
        ("attack tiny-a ddn --n 5 --params steps=none", "parameters of ddn: "),
        ("attack tiny-a pgd --eps -1 --n 5", "eps must be"),
        ("attack tiny-a pgd --eps 1 --n 0", "n must be"),
        ("attack tiny-a pgd --eps 1 --dataset none", "make data"),
        ("report --models tiny-a --n 0", "n: "),
        ("report --models tiny-a --threats l2", "write it as"),
        ("report --models tiny-a --threats l2=x", "write it as"),
        ("report --models tiny-a --threats l2=1/0", "write it as"),
        ("report --models tiny-a --out no/such/folder.html", "no folder no/such"),
        ("report --models tiny-a --out report.pdf", "*.html or *.json"),
        ("report --models tiny-a --require robust>=0.1", "takes no norm"),
        ("report --models tiny-a --n 9 --smoothing", "not trained with noise"),
        ("report --models tiny-a --smoothing 0.25", "--smoothing 0.25: write it as FIELD=VALUE"),
        ("report --models tiny-a --smoothing sigma=much", "smoothing.sigma: "),
        ("report --models tiny-a --require fast", "is no requirement"),
        ("report --models tiny-a --require robust(l7)@1>=0.1", "one of linf"),
        ("report --models tiny-a --require clean>=12", "between 0 and 1"),
        ("report --models tiny-a --require clean>=0.9.1", "is no requirement"),
        ("report --models tiny-a --n 9 --declare outputs=logits", "a shipped model's manifest says it"),
        ("compare nothing.json nothing.json", "cannot be read"),
    ],
)
def test_mistakes_get_one_line_and_status_two(root, capsys, words, reason):
    assert run(root, words) == 2
    assert reason in capsys.readouterr().err


def test_a_file_that_is_no_report(root, tmp_path, capsys):
    (tmp_path / "x.json").write_text("{}")
    assert run(root, f"compare {tmp_path}/x.json {tmp_path}/x.json") == 2
    assert "not a robustness report" in capsys.readouterr().err


def test_a_corrupt_model_is_refused(root, capsys):
    path = root / "artifacts" / "tiny-a" / "model.onnx"
    path.write_bytes(np.random.default_rng(0).bytes(64))
    assert run(root, "models") == 2
    assert "model.onnx" in capsys.readouterr().err


@pytest.fixture
def own(root, tmp_path):
    """An ONNX file and labelled images, as somebody would have them."""
    (tmp_path / "Mine.onnx").write_bytes((root / "artifacts" / "tiny-a" / "model.onnx").read_bytes())
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "My images.npz", images=images, labels=np.array([0, 1] * 6))
    return tmp_path


def test_a_report_on_ones_own_file_and_images(root, own, capsys):
    words = f"report --models {own}/Mine.onnx --dataset '{own}/My images.npz' --n 12 --threats l2=0.1"
    words += f" --declare classes=cat,dog,bird --out {own}/own.json --require 'certified(l2)@0.001>=0'"
    assert run(root, words) == 0
    told = capsys.readouterr()
    assert "mine: gradients verified" in told.err
    assert "mine: output logits (guessed" in told.err
    assert "classes cat, dog, bird (as you say)" in told.err
    made = Report.model_validate_json((own / "own.json").read_bytes())
    assert [model.name for model in made.models] == ["mine"]
    assert made.request.dataset == "my-images"
    assert made.models[0].clean.n == 12


def test_own_images_for_a_shipped_model_and_own_model_on_shipped_images(root, own, capsys):
    assert run(root, f"attack tiny-a ddn --n 4 --dataset '{own}/My images.npz'") == 0
    assert run(root, f"attack {own}/Mine.onnx ddn --n 4 --dataset tiny --declare classes=a,b,c") == 0
    assert "first 4 images" in capsys.readouterr().out
    shipped = f"report --models tiny-a --n 4 --dataset '{own}/My images.npz' --threats l2=0.1 --declare"
    assert run(root, f"{shipped} classes=a,b,c") == 2
    assert "0 is 'ankle boot' and 'a'" in capsys.readouterr().err
    assert run(root, f"{shipped} 'classes=ankle boot,bag,coat'") == 0  # the images' own
    assert run(root, f"{shipped} output=logits") == 2
    assert "--declare output is about a model's own file" in capsys.readouterr().err
    assert run(root, f"report --models {own}/Mine.onnx --n 4 --dataset tiny") == 2
    assert "0 is '0' and 'ankle boot'; those of your own model or images can be declared" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("report --models {own}/Mine.onnx", "say which images"),
        ("report --models {own}/none.onnx --dataset tiny", "none.onnx: cannot be read (No such file"),
        ("report --models {own}/evalsets/tiny.npz.onnx --dataset tiny", "cannot be read"),
        ("report --models {own}/bad.onnx --dataset tiny", "bad.onnx: "),
        ("report --models {own}/Mine.onnx --dataset {own}/none.npz", "none.npz: cannot be read"),
        ("report --models {own}/Mine.onnx --dataset {own}/bad.npz", "neither an .npz"),
        ("attack tiny-a pgd --eps 1 --dataset {own}/small.npz", "tiny-a takes images of the shape (1, 8, 8)"),
        ("report --models {own}/Mine.onnx --dataset tiny --declare layout", "write it as"),
        ("report --models {own}/Mine.onnx --dataset tiny --declare mean=a,b", "numbers with commas"),
        ("report --models {own}/Mine.onnx --dataset tiny --declare colour=red", "colour"),
        ("report --models {own}/Mine.onnx --dataset tiny --declare classes=a,b", "2 names for the 3 outputs"),
    ],
)
def test_files_that_cannot_be_used(root, own, capsys, words, error):
    (own / "bad.onnx").write_bytes(b"no graph")
    (own / "bad.npz").write_bytes(b"no archive")
    np.savez(own / "small.npz", images=np.zeros((2, 4, 4), np.uint8), labels=np.zeros(2, int))
    assert run(root, words.format(own=own)) == 2
    assert error in capsys.readouterr().err
