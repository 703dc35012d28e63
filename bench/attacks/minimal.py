"""The smallest L2: every single attack at the same cap, our ensemble, and the best of all peers image by image."""

from bench.attacks import distance, ours, peers, plot
from bench.attacks.options import Options
from bench.attacks.records import Distances, Goal, distance_table
from bench.attacks.section import Section
from bench.attacks.task import Task, first_correct, open_counted

N = 256
STEPS = 500


def run(options: Options) -> Section:
    """All on the same n images."""
    model = open_counted(options.model)
    x, y = first_correct(model, options.n or N)
    task = Task(model, x, y, steps=options.steps or STEPS)
    results = distance.measure((*ours.minimal(), ours.strongest("l2"), *peers.MINIMAL), task, options)
    rivals = distance.peers(results)
    title = f"Minimal L2 on {options.model}, at most {task.steps} forward and backward passes per image, n = {len(x)}"
    seconds = sum(found.time for found in rivals)
    return Section(
        name="minimal",
        title=title,
        text=f"{distance_table(results)}\nAll peers within the cap together, the best image by image: mean L2 "
        f"{distance.together(rivals):.4f} in {seconds:.1f} s.\n",
        results={"all": results},
        goals=goals(results),
        figure=plot.curves({title: results}),
    )


def goals(results: list[Distances]) -> list[Goal]:
    """One attack of ours against the best single peer, ``strongest`` against all of them together."""
    rivals = distance.peers(results)
    best = distance.nearest(rivals)
    whole = next(found for found in results if found.name == "gauntlet strongest")
    single = [found for found in results if found.ours and found.within_cap and found is not whole]
    near = [found for found in single if found.mean <= best.mean]
    own = min(near, key=lambda found: found.time) if near else distance.nearest(single)
    return [
        distance.no_farther(own, rivals, "mean L2", lambda result: result.mean),
        distance.no_slower(own, best, 1 / 4),
        Goal(
            text="gauntlet strongest: mean L2, at most that of all peers together",
            value=whole.mean,
            limit=distance.together(rivals),
        ),
    ]
