"""Which examples a part of a split takes, so that each class has its share in it.

Whole numbers decide, so that no rounding of a machine or a library moves an example. scikit-learn's
`train_test_split` refuses classes of one example, and draws otherwise from release to release.

Each class keeps an example to train on wherever that can be. Examples of one group, as are those of
one patient, are all in one part.
"""

import numpy as np


def draw_of_classes(labels: np.ndarray, count: int) -> np.ndarray:
    """Draw the first examples of each class, as many as its share of the part.

    The shares are whole numbers by the method of the largest remainder; of equal remainders the
    class that comes first.

    Args:
        labels: ``(N,)``, a class an example, the examples in random order.
        count: how many to draw, at most N.

    Returns:
        ``(N,)`` bool, true for `count` examples.

    Example:
        >>> draw_of_classes(np.array([7, 7, 5, 7, 7, 5, 3]), 3).tolist()
        [True, True, True, False, False, False, False]
    """
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    of = np.argsort(np.argsort(first))[inverse]  # classes numbered as they come
    sizes = np.bincount(of)
    starts = np.cumsum(sizes) - sizes
    rank = np.empty(len(labels), np.int64)  # of an example within its class
    rank[np.argsort(of, kind="stable")] = np.arange(len(labels)) - np.repeat(starts, sizes)
    return rank < _quotas(sizes, count)[of]


def draw_of_sets(classes: np.ndarray, count: int) -> np.ndarray:
    """Draw examples of several classes, of each class about as many as its share of the part.

    One class after the other, the rarest first: its examples that are not decided yet are drawn
    up to its share, and the others left. So each example is decided by its rarest class.

    Args:
        classes: ``(N, K)`` bool, the classes of each example, the examples in random order.
        count: how many to draw, at most N.

    Returns:
        ``(N,)`` bool, true for `count` examples.

    References:
        Sechidis, Tsoumakas & Vlahavas, On the stratification of multi-label data, ECML 2011.
    """
    total, sizes = len(classes), classes.sum(axis=0)
    drawn, decided = np.zeros(total, bool), np.zeros(total, bool)
    for k in np.argsort(sizes, kind="stable"):
        of = classes[:, k]
        share = (2 * int(sizes[k]) * count + total) // (2 * total)  # rounded
        left = min(share, int(sizes[k]) - 1, count - int((drawn & ~of).sum()))
        undecided = np.flatnonzero(of & ~decided)
        drawn[undecided[: max(left - int((drawn & of).sum()), 0)]] = True
        decided |= of
    return _topped_up(classes, drawn, decided, count)


def dealt(labels: np.ndarray, parts: int) -> np.ndarray:
    """Deal examples out to parts whose sizes, and counts of each class, differ by one at most.

    Args:
        labels: ``(N,)``, a class an example, the examples in random order.
        parts: how many.

    Returns:
        ``(N,)``, the part of each example, from 0.

    Example:
        >>> dealt(np.array([7, 7, 5, 7, 5, 7]), 2).tolist()
        [0, 1, 0, 0, 1, 1]
    """
    part = np.empty(len(labels), np.int64)
    part[np.argsort(labels, kind="stable")] = np.arange(len(labels)) % parts
    return part


def dealt_in_groups(groups: np.ndarray, classes: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Deal whole groups out to parts, each with about its count of examples and share of a class.

    The largest group first, of equal ones that which comes first; each goes where the sum over
    parts and classes of what is too many or too few grows least.

    Args:
        groups: ``(N,)``, the group of each example, the examples in random order.
        classes: ``(N, K)`` bool, the classes of each example; K may be 0.
        counts: ``(P,)``, how many examples each part is to have; N together.

    Returns:
        ``(N,)``, the part of each example, from 0.

    Example:
        >>> groups, none = np.array([4, 4, 4, 9, 9, 2, 2, 2]), np.zeros((8, 0), bool)
        >>> dealt_in_groups(groups, none, np.array([3, 5])).tolist()
        [0, 0, 0, 1, 1, 1, 1, 1]
    """
    total = len(groups)
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    has = np.column_stack([np.ones(total, bool), classes]).astype(np.int64)
    of_group = np.zeros((len(first), has.shape[1]), np.int64)
    np.add.at(of_group, inverse, has)
    wanted = counts[:, None].astype(np.int64) * has.sum(axis=0)  # in parts of the total
    so_far = np.zeros_like(wanted)
    part = np.empty(len(first), np.int64)
    for g in np.lexsort((first, -of_group[:, 0])):
        before = np.abs(so_far - wanted).sum(axis=1)
        after = np.abs(so_far + total * of_group[g] - wanted).sum(axis=1)
        part[g] = np.argmin(after - before)
        so_far[part[g]] += total * of_group[g]
    return part[inverse]


def _topped_up(
    classes: np.ndarray, drawn: np.ndarray, decided: np.ndarray, count: int
) -> np.ndarray:
    """Draw more, up to `count`: of no class, then those of which others are left, then any."""
    kept, missing = (classes & ~drawn[:, None]).sum(axis=0), count - int(drawn.sum())
    for i in (*np.flatnonzero(~decided), *np.flatnonzero(decided & ~drawn)):
        if missing and (kept[classes[i]] > 1).all():
            kept -= classes[i]
            drawn[i] = True
            missing -= 1
    drawn[np.flatnonzero(~drawn)[:missing]] = True
    return drawn


def _quotas(sizes: np.ndarray, count: int) -> np.ndarray:
    """Divide `count` among classes ``(K,)`` of these sizes: all but one of each, where that can be.

    Example:
        >>> _quotas(np.array([6, 3, 1]), 5).tolist()  # of 3, 1.5 and 0.5
        [3, 2, 0]
        >>> _quotas(np.array([1, 1, 1]), 2).tolist()
        [1, 1, 0]
    """
    most = sizes - 1 if (sizes - 1).sum() >= count else sizes
    shares = sizes.astype(np.int64) * count  # in parts of the total
    quotas = np.minimum(shares // sizes.sum(), most)
    while rest := count - int(quotas.sum()):
        behind = shares - quotas * sizes.sum()
        order = np.argsort(-behind, kind="stable")
        quotas[order[quotas[order] < most[order]][:rest]] += 1
    return quotas
