"""The command line, as a user types it."""

import io
import json
import re
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from gauntlet.cli.main import COMMANDS, main
from gauntlet.report.page import command
from gauntlet.report.schema import Report
from gauntlet.version import __version__
from tests import cases, tiny


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


def test_help_version_and_what_reads_reports_import_nothing_that_computes():
    """They are there without the extras cpu and gpu, and at once."""
    script = (
        "import sys; sys.modules.update(dict.fromkeys(('torch', 'onnxruntime', 'onnx2pytorch')))\n"
        "from gauntlet.cli.main import main\n"
        "for words in (['--version'], ['--help'], ['compare', '--help'], ['export', '--help']):\n"
        "    try: main(words)\n"
        "    except SystemExit as end: assert end.code == 0\n"
        "sys.exit(main(['attack', 'a', 'pgd']))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout.startswith(f"gauntlet {__version__}\n")
    assert all(f"\n    {name} " in done.stdout for name in COMMANDS)
    assert "is not installed: pip install 'gauntlet-robustness[gpu]'" in done.stderr


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

    monkeypatch.setattr("gauntlet.evaluation.referee.run", interrupt)
    assert run(root, "attack tiny-a ddn --n 4") == 130
    assert capsys.readouterr().err == "gauntlet: interrupted\n"


def test_a_failed_attack_counts_as_infinite_in_the_printed_median(root, capsys):
    assert run(root, "attack tiny-a pgd --norm l2 --eps 1e-6 --n 20") == 0
    assert "median l2         –" in capsys.readouterr().out


def test_the_median_is_of_the_norm_attacked_in(root, capsys):
    assert run(root, "attack tiny-a pgd --norm linf --eps 0.1 --n 8") == 0
    assert 0 < float(re.search(r"median linf +(\S+)", capsys.readouterr().out)[1]) <= 0.1


def test_progress_in_a_log_comes_in_lines(root, monkeypatch, capsys):
    monkeypatch.setattr("gauntlet.cli.report.LOGGED", 0.0)
    monkeypatch.setattr("gauntlet.cli.report.SETTLED", 0.0)
    assert run(root, "report --models tiny-a --n 4 --attacks pgd --threats linf=0.1") == 0
    assert len(re.findall(r"report +\d+ % .* left *\n", capsys.readouterr().err)) > 2


def test_an_attack_takes_parameters(root, capsys):
    assert run(root, "attack tiny-a fmn --norm linf --n 8 --params steps=1 targets=1") == 0
    few = capsys.readouterr().out
    assert run(root, "attack tiny-a fmn --norm linf --n 8 --params steps=100") == 0
    nearer, farther = (float(re.search(r"median linf +(\S+)", text)[1]) for text in (capsys.readouterr().out, few))
    assert nearer < farther


def test_report_and_compare(root, tmp_path, capsys):
    out = f"--out {tmp_path}/a.json --out {tmp_path}/a.html --smoothing sigma=0.1 samples=200 images=4"
    assert run(root, f"report --models tiny-a tiny-b --n 6 --threats l2=0.1 linf=0.02 {out}") == 0
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
    assert run(root, f"compare {tmp_path}/b.json {tmp_path}/a.json --out {tmp_path}/changes.md") == 0
    assert "- better: tiny-a: clean accuracy rose from 0.00 %" in (tmp_path / "changes.md").read_text()
    assert "clean accuracy rose from 0.00 %" in capsys.readouterr().out
    gated = f"export {tmp_path}/b.json --baseline {tmp_path}/a.json --out {tmp_path}/b.md --out {tmp_path}/b.xml"
    assert run(root, gated) == 1
    assert "WORSE: tiny-a: clean accuracy fell from" in capsys.readouterr().out
    assert "- **worse:** tiny-a: clean accuracy fell from" in (tmp_path / "b.md").read_text()
    assert 'type="loss" message="tiny-a: clean accuracy fell' in (tmp_path / "b.xml").read_text()
    assert run(root, f"{gated} --tolerance 100") == 0
    capsys.readouterr()
    worse["models"][0]["checks"].pop()
    (tmp_path / "b.json").write_text(json.dumps(worse))
    assert run(root, f"compare {tmp_path}/a.json {tmp_path}/b.json") == 2
    assert "the second report does not have tiny-a: " in capsys.readouterr().err
    (tmp_path / "b.md").unlink()
    assert run(root, gated) == 2
    assert "the second report does not have tiny-a: " in capsys.readouterr().err
    assert (tmp_path / "b.md").exists()  # what was measured is not lost
    assert run(root, f"export {tmp_path}/a.json --require clean>=0.01 --out {tmp_path}/a.xml") == 0
    capsys.readouterr()
    assert run(root, f"export {tmp_path}/a.json --require clean>=0.99999 --out {tmp_path}/a.sarif") == 1
    assert "MISSED: tiny-a: clean>=0.99999" in capsys.readouterr().out
    assert "requires clean&gt;=0.01" in (tmp_path / "a.xml").read_text()
    assert json.loads((tmp_path / "a.sarif").read_text())["version"] == "2.1.0"
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
        ("report --models tiny-a --out report.pdf", "one of *.html, *.json"),
        ("export report.json --out report.pdf", "one of *.html, *.json"),
        ("export nothing.json", "cannot be read"),
        ("report --models tiny-a --require robust>=0.1", "takes no norm"),
        ("report --models tiny-a --n 9 --smoothing", "not trained with noise"),
        ("report --models tiny-a --smoothing 0.25", "--smoothing 0.25: write it as FIELD=VALUE"),
        ("report --models tiny-a --smoothing sigma=much", "smoothing.sigma: "),
        ("report --models tiny-a --require fast", "is no requirement"),
        ("report --models tiny-a --require robust(l7)@1>=0.1", "one of linf"),
        ("report --models tiny-a --require clean>=12", "between 0 and 1"),
        ("report --models tiny-a --require clean>=0.9.1", "is no requirement"),
        ("report --models tiny-a --n 9 --declare outputs=logits", "the manifest of a shipped model has it"),
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
    assert "mine: output logits (not declared: " in told.err
    assert "classes cat, dog, bird (as declared)" in told.err
    made = Report.model_validate_json((own / "own.json").read_bytes())
    assert [model.name for model in made.models] == ["mine"]
    assert made.request.dataset == "my-images"
    assert made.models[0].clean.n == 12


def test_own_images_for_a_shipped_model_and_own_model_on_shipped_images(root, own, capsys):
    assert run(root, f"attack tiny-a ddn --n 4 --dataset '{own}/My images.npz'") == 0
    theirs = "'classes=coat,bag,ankle boot'"  # in another order than the images'
    assert run(root, f"attack {own}/Mine.onnx ddn --n 4 --dataset tiny --declare {theirs}") == 0
    assert "first 4 images" in capsys.readouterr().out
    shipped = f"report --models tiny-a --n 4 --dataset '{own}/My images.npz' --threats l2=0.1 --declare"
    assert run(root, f"{shipped} classes=a,b,c") == 2
    assert (
        "my-images has images of 'a', 'b', 'c', and tiny-a has 'ankle boot', 'bag', 'coat'" in capsys.readouterr().err
    )
    assert run(root, f"{shipped} 'classes=ankle boot,bag,coat'") == 0  # the images' own
    assert run(root, f"{shipped} output=logits") == 2
    assert "--declare output applies only to a model given as a file" in capsys.readouterr().err
    assert run(root, f"report --models {own}/Mine.onnx --n 4 --dataset tiny") == 2
    assert (
        "the 3 outputs of mine have no names; declare the classes of your own model or images"
        in capsys.readouterr().err
    )


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


def printed_accuracy(text: str) -> float:
    return float(re.search(r"clean accuracy\s+([\d.]+)", text)[1])


@pytest.mark.parametrize("kind", ["zip", "npz"])
def test_folders_named_by_numbers_are_the_outputs_of_a_model_without_names(root, capsys, kind):
    folder = cases.FOLDER
    assert run(root, f"attack {folder}/bright.onnx noise --eps 0 --n 12 --dataset {folder}/numbers.{kind}") == 0
    told = capsys.readouterr()
    assert printed_accuracy(told.out) == 1
    assert "bright: classes 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ... (not declared: nothing in the file names them" in told.err
    assert "as declared" not in told.err


def shades(path: Path, names: Sequence[str]) -> None:
    """A folder for each name, the brightest last, of shades that bright.onnx tells apart."""
    with zipfile.ZipFile(path, "w") as archive:
        for i, name in enumerate(names):
            buffer = io.BytesIO()
            Image.new("L", (8, 8), 20 * i).save(buffer, "PNG")
            archive.writestr(f"{name}/a.png", buffer.getvalue())


def test_classes_of_model_and_images_are_matched_by_name(root, tmp_path, capsys):
    names = [f"shade {letter}" for letter in "zyxwvutsrqpo"]  # in the order of the outputs; folders sort the other way
    shades(tmp_path / "shades.zip", names)
    model = onnx.load_from_string(cases.read("bright.onnx"))
    onnx.helper.set_model_props(model, {"class_to_idx": json.dumps({name: i for i, name in enumerate(names)})})
    onnx.save(model, tmp_path / "named.onnx")
    words = f"attack {tmp_path}/named.onnx noise --eps 0 --n 12 --dataset {tmp_path}/shades.zip"
    assert run(root, words) == 0
    told = capsys.readouterr()
    assert printed_accuracy(told.out) == 1
    assert "(not declared: the metadata entry 'class_to_idx' of the file, names by the numbers" in told.err
    shades(tmp_path / "shades.zip", [*names[:-1], "shade 0"])
    assert run(root, words) == 2
    assert "shades has images of 'shade 0', and named has 'shade o'" in capsys.readouterr().err


def test_an_order_that_nothing_says_is_called_a_guess(root, tmp_path, capsys):
    shades(tmp_path / "shades.zip", [f"shade {letter}" for letter in "abcdefghijkl"])
    words = f"attack {cases.FOLDER}/bright.onnx noise --eps 0 --n 12 --dataset {tmp_path}/shades.zip"
    assert run(root, words) == 0
    told = capsys.readouterr()
    assert "classes shade a, shade b" in told.err
    assert "(not declared: a guess: nothing names the outputs" in told.err
    (tmp_path / "bright.onnx").write_bytes(cases.read("bright.onnx"))
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    assert run(root, words.replace(str(cases.FOLDER), str(tmp_path))) == 0
    assert "of shades; 'labels.txt' beside it names 2 classes for 12 outputs, not used)" in capsys.readouterr().err
    shades(tmp_path / "shades.zip", ["cat", "dog"])
    assert run(root, words) == 2
    assert "the 12 outputs of bright have no names; declare" in capsys.readouterr().err


def test_names_of_classes_lie_beside_the_model_or_in_a_file_that_is_declared(root, own, capsys):
    words = f"attack {own}/Mine.onnx noise --eps 0 --n 4 --dataset '{own}/My images.npz'"
    (own / "config.json").write_text('{"model_type": "vit", "id2label": {"1": "dog", "0": "cat", "2": "eel"}}')
    assert run(root, f"{words} --declare classes=cat,dog,eel") == 0
    assert "(as declared)" in capsys.readouterr().err
    assert run(root, words) == 0
    assert "cat, dog, eel (not declared: the file 'config.json' beside it, by its keys)" in capsys.readouterr().err
    (own / "names.txt").write_text("2: eel\n0: cat\n1: dog\n")
    assert run(root, f"{words} --declare classes=@{own}/names.txt") == 0
    told = capsys.readouterr().err
    assert "classes cat, dog, eel (as declared; the file 'names.txt', by the numbers of its lines)" in told
    (own / "names.txt").write_text("cat\ndog\n")
    assert run(root, f"{words} --declare classes=@{own}/names.txt") == 2
    assert "'names.txt' has 2 names for the 3 outputs" in capsys.readouterr().err
    assert run(root, f"{words} --declare classes=@{own}/none.txt") == 2
    assert "none.txt: cannot be read (No such file" in capsys.readouterr().err


def test_images_choose_the_preprocessing_that_is_not_declared(root, tmp_path, capsys):
    draw = np.random.default_rng(0)
    nodes = [
        onnx.helper.make_node("Flatten", ["x"], ["flat"]),
        onnx.helper.make_node("Gemm", ["flat", "w", "b"], ["y"], transB=1),
    ]
    w = (draw.normal(size=(3, 64)) / 200).astype(np.float32)
    images = draw.integers(0, 256, (60, 8, 8), dtype=np.uint8)
    logits = images.reshape(60, -1) @ w.T
    b = -np.median(logits, axis=0).astype(np.float32)  # of the size that pixels to 255 need
    tiny.save_graph(tmp_path / "bytes.onnx", nodes, {"w": w, "b": b}, tiny.SHAPE, (3,))
    np.savez(tmp_path / "images.npz", images=images, labels=(logits + b).argmax(axis=1))
    words = f"report --model {tmp_path}/bytes.onnx --dataset {tmp_path}/images.npz --n 20 --threats l2=0.1"
    assert run(root, f"{words} --out {tmp_path}/r.json") == 0
    told = capsys.readouterr()
    assert "bytes: pixel_range 0..255 (not declared: chosen by the labelled images: pixels in 0..255)" in told.err
    assert "bytes: preprocessing pixels in 0..255, chosen by the labelled images (60 of 60" in told.err
    assert "bytes, pixels in 0..255, was not declared but chosen by the labelled images: 60 of 60" in told.out
    (model,) = Report.model_validate_json((tmp_path / "r.json").read_bytes()).models
    assert model.preprocessing.taken == "pixels in 0..255"
    assert model.preprocessing.right["pixels in 0..255"] == (60, 60)
    assert run(root, f"{words} --declare pixel_range=0..1 mean=0 std=1") == 2  # the check raises its alarm
    told = capsys.readouterr()
    assert "bytes: preprocessing" not in told.err
    assert "ALARM: bytes: The model is right far more often with pixels in 0..255" in told.out


def test_weights_beside_a_model_are_read(root, tmp_path, capsys):
    images = np.random.default_rng(0).integers(0, 256, (4, 28, 28), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", images=images, labels=np.arange(4))
    (tmp_path / "model.onnx").write_bytes(cases.read("torch_default.onnx"))
    words = f"attack {tmp_path}/model.onnx noise --eps 0 --n 4 --dataset {tmp_path}/images.npz"
    assert run(root, words) == 2
    assert "'torch_default.onnx.data': bring it along" in capsys.readouterr().err
    (tmp_path / "torch_default.onnx.data").write_bytes(cases.read("torch_default.onnx.data"))
    assert run(root, words) == 0
