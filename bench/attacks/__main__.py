"""``python -m bench.attacks [PART ...]``: run the given parts of the benchmark, or all.

All contenders differentiate the same torch twin of a shipped file, parameters frozen, on the same images, in one
process with the same threads. A wrapper counts the passes of each; a contender that exceeds the cap, even after its
steps have been lowered to fit, is listed but does not compete. Every peer runs at the batch size of --batches that was
fastest for it. Runs alternate, except those of linf, whose results are cached; seconds are the median of the rounds.
ONNX Runtime decides on success, and a failure counts as an infinite distance; a peer's image that ONNX Runtime does not
judge a success is first moved outward by up to 1 %. Writes JSON, Markdown and curves.
"""

import argparse
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from bench.attacks import cw, defaults, linf, minimal, overhead, sparse, undefended
from bench.attacks.options import Options
from bench.attacks.section import Section, write
from bench.attacks.task import ARTIFACTS
from bench.page import PAGE, publish
from gauntlet.errors import GauntletError
from gauntlet.report.requirements import fraction
from gauntlet.runtime import memory

PARTS: dict[str, Callable[[Options], Section]] = {
    "cw": cw.run,
    "minimal": minimal.run,
    "linf": linf.run,
    "overhead": overhead.run,
    "defaults": defaults.run,
    "undefended": undefended.run,
    "sparse": sparse.run,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chosen parts; return 2 if one could not be run, and print its error."""
    parser = _parser()
    given = vars(parser.parse_args(arguments))
    parts, threads, published = given.pop("parts") or list(PARTS), given.pop("threads"), given.pop("publish")
    if unknown := sorted(set(parts) - set(PARTS)):
        parser.error(f"there is no part {unknown[0]!r}")
    torch.set_num_threads(threads or torch.get_num_threads())
    memory.keep()
    given["adversarial"] = given["adversarial"] or sorted(path.name for path in ARTIFACTS.glob("*-adversarial"))
    options = Options.model_validate(given)
    status = 0
    for part in parts:
        try:
            section = PARTS[part](options)
            text = write(section, options)
            print(text, flush=True)
            if published:
                put(section.name, text, options.out)
        except GauntletError as error:
            sys.stderr.write(f"{part}: {error}\n")
            status = 2
    return status


def put(name: str, text: str, out: Path) -> None:
    """Put a section into docs/benchmarks.md, with its curves."""
    curves = out / f"{name}.svg"
    if curves.exists():
        text += f"\n![time against distance](benchmarks-{name}.svg)\n"
        shutil.copy(curves, PAGE.with_name(f"benchmarks-{name}.svg"))
    publish(name, text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: all")
    add("--model", default="fashion-mnist-standard", help="of cw, minimal and overhead (%(default)s)")
    add("--adversarial", nargs="+", default=[], help="models of linf; default: all named *-adversarial")
    add("--n", type=int, help="images; default: as the part defines")
    add("--skip", type=int, default=0, help="test images left out of linf, those that attacks were tuned on")
    add("--slow-n", type=int, default=16, help="images that ART gets (%(default)s)")
    add("--steps", type=int, help="the cap; default: as the part defines")
    add("--rounds", type=int, default=3)
    add("--seed", type=int, default=0)
    add("--seeds", type=int, default=3, help="of linf, where they are the rounds (%(default)s)")
    add("--peer-seeds", type=int, help="of the peers in linf, which take most of the time; default: --seeds")
    add("--batches", type=int, nargs="+", default=[32, 128, 256], help="what peers choose from; one: no choice")
    add("--shares", type=float, nargs="*", default=[1 / 8, 1 / 4, 1 / 2], help="of the steps: points of the curves")
    add("--eps", type=fraction, help="of linf; default: the data set's")
    add("--threads", type=int, help="of torch; default: as many as torch takes")
    add("--out", type=Path, default=Path("dist/bench"))
    add("--publish", action="store_true", help="into docs/benchmarks.md too")
    return parser


if __name__ == "__main__":
    sys.exit(main())
