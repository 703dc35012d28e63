from bench.attacks import goals
from bench.attacks.records import Distances, Point, Robust


def record(name, l2, seconds=1.0, within_cap=True):
    counts = {"steps": 1, "batch": 1, "forwards": 1, "backwards": 1, "within_cap": within_cap}
    whole = Point(steps=1, seconds=seconds, median=sorted(l2)[len(l2) // 2], mean=sum(l2) / len(l2))
    own = {"name": name, "ours": name.startswith("gauntlet"), "curve": (whole,)}
    return Distances(seconds=(seconds,), returned=l2, nudged=l2, **own, **counts)


def test_minimal_sets_our_fastest_good_attack_against_the_best_peer():
    fast, slow = record("gauntlet fast", (1.0, 2.0), 2.0), record("gauntlet slow", (1.0, 1.0), 9.0)
    far, whole = record("gauntlet far", (3.0, 3.0), 0.1), record("gauntlet strongest", (1.0, 0.9), 30.0)
    best, other = record("best", (1.0, 2.0), 10.0), record("other", (9.0, 0.8), 1.0)
    cheat = record("cheat", (0.1, 0.1), 1.0, within_cap=False)
    mean, share, together = goals.minimal([fast, slow, far, whole, best, other, cheat])
    assert (mean.text, mean.value, mean.limit) == ("gauntlet fast, 1 steps: mean L2, at most that of best", 1.5, 1.5)
    assert (share.value, share.met) == (0.2, True)
    assert (together.value, together.limit, together.met) == (0.95, 0.9, False)


def test_fewer_steps_of_ours_count_where_they_are_near_enough():
    points = [Point(steps=steps, seconds=steps / 10, median=mean, mean=mean) for steps, mean in ((10, 1.2), (20, 0.9))]
    own = record("gauntlet own", (0.8,), 5.0).model_copy(update={"curve": tuple(points)})
    mean, share, _ = goals.minimal([own, record("gauntlet strongest", (0.8,)), record("best", (1.0,), 10.0)])
    assert (mean.text, mean.value) == ("gauntlet own, 20 steps: mean L2, at most that of best", 0.9)
    assert share.value == 0.2


def test_a_peer_that_failed_once_is_no_nearer_than_infinity():
    own, failed = record("gauntlet cw", (1.0, 1.0)), record("foolbox cw", (0.1, float("inf")), 10.0)
    art = record("art cw", (1.0,), 100.0), record("art cw, all steps", (1.0,), 1000.0, within_cap=False)
    mean, median, foolbox, capped, whole = goals.carlini_wagner([own, failed], [own, *art])
    assert mean.limit == median.limit == float("inf")
    assert (foolbox.value, foolbox.met) == (0.1, True)
    assert (capped.value, capped.met, whole.met) == (0.01, True, True)


def test_ours_at_its_worst_seed_meets_the_best_of_theirs():
    def robust(name, standing, seconds, passes):
        about = {"model": "m", "name": name, "ours": False, "batch": 1}
        return Robust(standing=standing, seconds=seconds, passes=passes, **about)

    own = robust("ours", (50, 52, 51), (1.0, 1.0, 1.0), (10.0, 10.0, 10.0))
    weak = robust("weak", (60, 60, 60), (2.0, 2.0, 2.0), (20.0, 20.0, 20.0))
    best = robust("best", (51, 49, 50), (4.0, 4.0, 4.0), (30.0, 30.0, 30.0))
    above, share, passes = goals.robust([own, weak, best])
    assert (above.value, above.limit, above.met) == (3, 2, False)
    assert (share.value, share.met) == (0.25, True)
    assert (passes.value, passes.limit) == (10, 30)
