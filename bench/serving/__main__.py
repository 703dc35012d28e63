"""``python -m bench.serving``: the service against LitServe, FastAPI, a plain BentoML endpoint and bare ONNX Runtime.

Every peer first runs briefly with each of its settings, and is then measured with the fastest. All decode the same
PNGs, return the same fields, and get requests from the same load generator, one server at a time, in turn.
"""

import argparse
import sys
from pathlib import Path

from bench.page import PAGE, publish
from bench.serving.asks import ROOT, Asks
from bench.serving.contest import Options, contest
from bench.serving.servers import workplace
from bench.serving.table import Machine, Record, goals, markdown


def main() -> None:
    """Print the table; write it and the JSON. Exit status 1 if an answer was wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.serving", description=__doc__)
    parser.add_argument("--model", default="fashion-mnist-standard")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=8, help="duration of a measured run (%(default)s)")
    parser.add_argument("--trial", type=float, default=2, help="seconds of a run that chooses settings (%(default)s)")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out", type=Path, default=ROOT / "dist" / "serving", help="folder for JSON and Markdown")
    parser.add_argument("--publish", action="store_true", help=f"into {PAGE.relative_to(ROOT)} too, JSON beside it")
    given = vars(parser.parse_args())
    published = given.pop("publish")
    options, machine = Options.model_validate(given), Machine()
    with workplace() as folder:
        medians, runs = contest(Asks(options.model), options, folder)
    record = Record(machine=machine, options=options, medians=medians, runs=runs, goals=goals(medians))
    section, data = markdown(record), record.model_dump_json(indent=1, exclude={"options": {"out"}})
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "serving.md").write_text(section)
    (options.out / "serving.json").write_text(data)
    if published:
        publish("serving", section)
        PAGE.with_name("serving.json").write_text(data)
    print(section)
    sys.exit(any(run.wrong for run in runs))


if __name__ == "__main__":
    main()
