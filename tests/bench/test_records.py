from bench.attacks.records import Distances, Point, curve_table


def test_a_curve_is_one_line_for_each_that_was_cut():
    whole = Point(steps=8, seconds=2.0, median=0.5, mean=0.25)
    half = Point(steps=4, seconds=1.0, median=0.5, mean=0.5)
    counts = {"steps": 8, "batch": 1, "seconds": (2.0,), "forwards": 8, "backwards": 8, "within_cap": True}
    cut, uncut = (
        Distances(name=name, ours=True, returned=(0.25,), nudged=(0.25,), curve=curve, **counts)
        for name, curve in (("cut", (half, whole)), ("uncut", (whole,)))
    )
    far = cut.model_copy(update={"name": "far", "returned": (9.0,)})
    lines = curve_table([far, uncut, cut], [1 / 2]).splitlines()
    assert lines[0] == "| attack; steps: mean L2, seconds | 0.5 of its steps | all |"
    assert lines[2:] == [f"| {name} | 4: 0.5000, 1.0 s | 8: 0.2500, 2.0 s |" for name in ("cut", "far")]
