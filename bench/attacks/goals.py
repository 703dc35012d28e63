"""The figures that are to be reached, from what was measured."""

from collections.abc import Callable, Iterable, Sequence

import torch

from bench.attacks.records import Distances, Goal, Robust

ABOVE = 2  # images that our ensemble may leave standing beyond the fewest that an AutoAttack does


def carlini_wagner(results: list[Distances], slow: list[Distances]) -> list[Goal]:
    """Distances against the best peer, seconds against foolbox and against ART, within the cap and over it."""
    rivals = peers(results)
    return [
        no_farther(results[0], rivals, "mean L2", lambda found: found.mean),
        no_farther(results[0], rivals, "median L2", lambda found: found.median),
        *(no_slower(results[0], peer, 1 / 5) for peer in named(rivals, "foolbox")),
        *(no_slower(slow[0], peer, 1 / 50) for peer in named(slow, "art")),
    ]


def minimal(results: list[Distances]) -> list[Goal]:
    """One attack of ours, all its steps or a share of them, against the best single peer; ``strongest`` against all."""
    rivals = peers(results)
    best = nearest(rivals)
    whole = next(found for found in results if found.name == "gauntlet strongest")
    single = [found for found in results if found.ours and found.within_cap and found is not whole]
    tried = [(found.name, point) for found in single for point in found.curve]
    near = [(name, point) for name, point in tried if point.mean <= best.mean]
    name, point = min(near, key=lambda pair: pair[1].seconds) if near else min(tried, key=lambda pair: pair[1].mean)
    own = f"{name}, {point.steps} steps"
    return [
        Goal(text=f"{own}: mean L2, at most that of {best.name}", value=point.mean, limit=best.mean),
        Goal(
            text=f"{own}: time as a share of that of {best.name}, {best.steps} steps",
            value=point.seconds / best.time,
            limit=1 / 4,
        ),
        Goal(
            text="gauntlet strongest: mean L2, at most that of all peers together",
            value=whole.mean,
            limit=together(rivals),
        ),
    ]


def robust(results: list[Robust]) -> list[Goal]:
    """Ours at its worst seed against the AutoAttack that left the fewest standing at its best, the faster of equals."""
    own, *rivals = results
    best = min(rivals, key=lambda found: (min(found.standing), found.time))
    where = f"{own.model}: {own.name}"
    return [
        Goal(
            text=f"{where}: images standing beyond those of {best.name}",
            value=max(own.standing) - min(best.standing),
            limit=ABOVE,
        ),
        Goal(text=f"{where}: time as a share of that of {best.name}", value=own.time / best.time, limit=1 / 3),
        Goal(
            text=f"{where}: forward and backward passes per image, at most those of {best.name}",
            value=max(own.passes),
            limit=max(best.passes),
        ),
    ]


def peers(results: Iterable[Distances]) -> list[Distances]:
    """Those that count against us."""
    return [found for found in results if not found.ours and found.within_cap]


def named(results: Iterable[Distances], text: str) -> list[Distances]:
    return [found for found in results if found.name.startswith(text)]


def nearest(results: Sequence[Distances]) -> Distances:
    """The contender with the smallest mean."""
    return min(results, key=lambda found: found.mean)


def together(results: Sequence[Distances]) -> float:
    """The mean over images of the best that any of them did on each."""
    return float(torch.stack([found.l2 for found in results]).amin(dim=0).mean())


def no_farther(ours: Distances, peers: Sequence[Distances], measure: str, of: Callable[[Distances], float]) -> Goal:
    """A goal: ours is at most the smallest of theirs."""
    best = min(peers, key=of)
    return Goal(text=f"{ours.name}: {measure}, at most that of {best.name}", value=of(ours), limit=of(best))


def no_slower(ours: Distances, peer: Distances, share: float) -> Goal:
    """A goal: ours takes at most this share of their time."""
    text = f"{ours.name}: time as a share of that of {peer.name}"
    return Goal(text=text, value=ours.time / peer.time, limit=share)
