"""Minimal L2: every attack at the same cap, our ensemble, and for each image the best of all peers."""

from bench.attacks import distance, goals, ours, peers, plot
from bench.attacks.options import Options
from bench.attacks.records import curve_table, distance_table
from bench.attacks.section import Section
from bench.attacks.task import Task, first_correct, open_counted

N = 256
STEPS = 500


def run(options: Options) -> Section:
    """Run all contenders on the same n images."""
    model = open_counted(options.model)
    x, y = first_correct(model, options.n or N)
    task = Task(model, x, y, steps=options.steps or STEPS)
    results = distance.measure((*ours.minimal(), ours.strongest("l2"), *peers.MINIMAL), task, options)
    rivals = goals.peers(results)
    title = f"Minimal L2 on {options.model}, at most {task.steps} forward and backward passes per image, n = {len(x)}"
    seconds = sum(found.time for found in rivals)
    return Section(
        name="minimal",
        title=title,
        text=f"{distance_table(results)}\nAll peers within the cap together, the best image by image: mean L2 "
        f"{goals.together(rivals):.4f} in {seconds:.1f} s.\n\n{curve_table(results, options.shares)}",
        results={"all": results},
        goals=goals.minimal(results),
        figure=plot.curves({title: results}),
    )
