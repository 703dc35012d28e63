"""Compares measured results with the benchmark's goals."""

from collections.abc import Callable, Iterable, Sequence

import torch

from bench.attacks.records import Distances, Goal, Robust

ABOVE = 2  # unbroken images that our ensemble may leave in addition to those that the best AutoAttack leaves


def carlini_wagner(results: list[Distances], slow: list[Distances]) -> list[Goal]:
    """Goals: our distances against the best peer's; our seconds against foolbox's and ART's, even if over the cap."""
    rivals = peers(results)
    return [
        no_farther(results[0], rivals, "mean L2", lambda found: found.mean),
        no_farther(results[0], rivals, "median L2", lambda found: found.median),
        *(no_slower(results[0], peer, 1 / 5) for peer in named(rivals, "foolbox")),
        *(no_slower(slow[0], peer, 1 / 50) for peer in named(slow, "art")),
    ]


def minimal(results: list[Distances]) -> list[Goal]:
    """Goals: one attack of ours, with all or some of its steps, against the best peer; ``strongest`` against all."""
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
    """Goals: our ensemble at its worst seed against the AutoAttack with the fewest unbroken images at its best seed.

    Of equal AutoAttacks, the faster.
    """
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
    """Return the results of peers that kept within the cap: those with which ours are compared."""
    return [found for found in results if not found.ours and found.within_cap]


def named(results: Iterable[Distances], text: str) -> list[Distances]:
    return [found for found in results if found.name.startswith(text)]


def nearest(results: Sequence[Distances]) -> Distances:
    """The contender with the smallest mean."""
    return min(results, key=lambda found: found.mean)


def together(results: Sequence[Distances]) -> float:
    """Compute the mean over images of the smallest distance that any of the contenders found."""
    return float(torch.stack([found.l2 for found in results]).amin(dim=0).mean())


def no_farther(ours: Distances, peers: Sequence[Distances], measure: str, of: Callable[[Distances], float]) -> Goal:
    """Return a goal: our value is at most the smallest of the peers'."""
    best = min(peers, key=of)
    return Goal(text=f"{ours.name}: {measure}, at most that of {best.name}", value=of(ours), limit=of(best))


def no_slower(ours: Distances, peer: Distances, share: float) -> Goal:
    """Return a goal: ours takes at most this share of the peer's time."""
    text = f"{ours.name}: time as a share of that of {peer.name}"
    return Goal(text=text, value=ours.time / peer.time, limit=share)
