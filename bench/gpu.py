"""``python -m bench.gpu``: the three jobs that profit most from a GPU, the most profitable first, in nine minutes.

1. ``bench.device``: providers, agreement with the CPU, images a second that are classified, generated and attacked.
2. ``cifar10-lipschitz-large``: the certified network, deeper and wider, for as many epochs as the time allows.
3. ``cifar10-conditional-gan-large``: the class-conditional generator, twice as wide, in bfloat16.

Each step runs in processes of its own with a timeout. Results of finished steps are under --out: a text, and one zip
for each model; a failed step does not affect the others. ``--rehearse`` runs every step with tiny networks, on any
device.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.device import MODELS

SECONDS = 540.0
LARGEST = 16 * 2**20  # bytes of a zip
PROBE = 0.15  # share of a step's time for the trial run that measures the duration of an epoch
MOST_EPOCHS = 200


@dataclass(frozen=True)
class Step:
    """A recipe trained with other ``settings``; ``share``: of the remaining time; ``export``: part for the export."""

    name: str
    recipe: str
    share: float
    export: float
    settings: dict[str, object]
    tiny: dict[str, object]


STEPS = (
    Step(
        name="cifar10-lipschitz-large",
        recipe="cifar10-lipschitz",
        share=0.6,
        export=0.25,
        settings={"blocks": [4, 4, 4], "width": 64, "features": 512},
        tiny={"blocks": [1, 1], "width": 4, "features": 8},
    ),
    Step(
        name="cifar10-conditional-gan-large",
        recipe="cifar10-conditional-gan",
        share=1.0,  # all of the remaining time
        export=0.35,
        settings={"width": 32, "batch_size": 64, "precision": "bfloat16"},
        tiny={"width": 4, "batch_size": 64, "precision": "bfloat16"},
    ),
)


def train(step: Step, options: argparse.Namespace, end: float) -> str:
    """Train and pack one model; return a line about the result.

    Training is planned for the step's share of the time before ``end``, a time of ``time.monotonic``. Only ``end``
    itself is a hard limit: if the export takes longer than planned, the later, less important steps get less time.
    """
    begun = time.monotonic()
    seconds = step.share * (end - begun)
    with tempfile.TemporaryDirectory() as place:
        artifacts = Path(place) / "artifacts"
        artifacts.mkdir()
        for judge in options.judges.glob("*-standard"):
            (artifacts / judge.name).symlink_to(judge.resolve())
        command = [sys.executable, "-m", "training", "train", step.recipe, "--name", step.name]
        command += ["--device", options.device, "--runs", str(Path(place) / "runs"), "--out", str(artifacts)]
        settings = step.tiny if options.rehearse else step.settings
        command += [word for key, value in settings.items() for word in ("--set", f"{key}={json.dumps(value)}")]
        probe = _run([*command, "--trial", "--epochs", "2", "--limit", str(PROBE * seconds)], options, step, end)
        epoch = float(json.loads(probe.splitlines()[-1])["epoch_seconds"][-1])  # the first epoch includes a warm-up
        left = (1 - step.export) * seconds - (time.monotonic() - begun)
        epochs = max(1, min(MOST_EPOCHS, math.floor(left / epoch)))
        _run([*command, "--epochs", str(epochs), "--limit", f"{left:.0f}"], options, step, end)
        return _pack(artifacts / step.name, options.out)


def _run(command: Sequence[str], options: argparse.Namespace, step: Step, end: float) -> str:
    """Run a process and return its standard output; both its outputs go to the step's log. Raises SubprocessError."""
    seconds = end - time.monotonic()
    with (options.out / f"{step.name}.log").open("a") as log:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=log, timeout=seconds, check=True, text=True)  # noqa: S603
        log.write(done.stdout)
    return done.stdout


def _pack(folder: Path, out: Path) -> str:
    """Pack an artefact folder into a zip; return its name, size and figures as text."""
    packed = out / f"{folder.name}.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, f"{folder.name}/{file.name}")
    metrics = json.loads((folder / "manifest.json").read_text())["metrics"]
    figures = ", ".join(
        f"{name} {entry['value']:.4g}" for name, entry in metrics.items() if entry["split"] != "validation"
    )
    size = packed.stat().st_size
    warning = f"; MORE THAN {LARGEST} BYTES" if size > LARGEST else ""
    return f"{packed.name}, {size} bytes{warning}: {figures}"


def check(options: argparse.Namespace, seconds: float) -> str:
    """Run ``bench.device`` and save its output."""
    size = ["--n", "64", "--seconds", "0.1"] if options.rehearse else []
    command = [sys.executable, "-m", "bench.device", "--device", options.device, *size]
    done = subprocess.run(command, capture_output=True, timeout=seconds, check=False, text=True)  # noqa: S603
    (options.out / "device.txt").write_text(done.stdout + done.stderr)
    return f"status {done.returncode}\n{done.stdout}"


def work(options: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """Run the steps; yield each one's name and result. A failed step does not stop the others."""
    end = time.monotonic() + options.seconds
    try:
        yield "device", check(options, options.seconds / 4)
    except subprocess.SubprocessError as error:
        yield "device", f"failed: {error}"
    for step in STEPS:
        try:
            yield step.name, train(step, options, end)
        except (subprocess.SubprocessError, OSError, ValueError, IndexError) as error:
            yield step.name, f"failed: {_reason(error)}; {step.name}.log has the rest"


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.TimeoutExpired):
        return "out of time"
    return f"exit status {error.returncode}" if isinstance(error, subprocess.CalledProcessError) else str(error)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all steps; return 1 if one failed."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--out", type=Path, required=True, help="where texts and zips go")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="time limit for all steps (%(default)s)")
    parser.add_argument("--device", choices=("auto", "cuda", "cpu"), default="cuda")
    parser.add_argument("--judges", type=Path, default=MODELS / "artifacts", help="where the standard classifiers are")
    parser.add_argument("--rehearse", action="store_true", help="tiny networks, to see that every step works")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    failed, started = 0, time.monotonic()
    for name, result in work(options):
        failed += result.startswith(("failed", "status 1", "status 2"))
        line = f"[{time.monotonic() - started:.0f} s] {name}: {result}"
        print(line, flush=True)
        with (options.out / "summary.txt").open("a") as summary:
            summary.write(line + "\n")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
