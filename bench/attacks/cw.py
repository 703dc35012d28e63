"""Carlini and Wagner's attack in L2, 6 values of c times 200 steps, by every library."""

from bench.attacks import distance, goals, ours, peers, plot
from bench.attacks.options import Options
from bench.attacks.records import curve_table, distance_table
from bench.attacks.section import Section
from bench.attacks.task import Task, first_correct, open_counted

N = 128
STEPS = 1200


def run(options: Options) -> Section:
    """Run all contenders but ART on the same n images; ART, which is slow, and ours on the first few of them."""
    model = open_counted(options.model)
    x, y = first_correct(model, options.n or N)
    task = Task(model, x, y, steps=options.steps or STEPS)
    results = distance.measure((ours.single("cw"), *peers.CW), task, options)
    slow = distance.measure((ours.single("cw"), *peers.SLOW_CW), task.first(options.slow_n), options)
    title = f"Carlini-Wagner L2 on {options.model}, at most {task.steps} forward and backward passes per image"
    return Section(
        name="cw",
        title=title,
        text="\n".join(
            f"n = {n}\n\n{distance_table(found)}\n{curve_table(found, options.shares)}"
            for n, found in ((len(x), results), (options.slow_n, slow))
        ),
        results={"all": results, "slow": slow},
        goals=goals.carlini_wagner(results, slow),
        figure=plot.curves({f"{title}, n = {len(x)}": results, f"n = {options.slow_n}": slow}),
    )
