"""Losses of embeddings: of pairs and triplets, and of whole batches."""

import jax.numpy as jnp
import numpy as np

from convax import ops
from tests.reference import loss as reference
from tests.reference import loss_embedding as batches

from .entry import Entry, normal
from .losses_common import Loss, per_example

# ---------------------------------------------------------------------------------- embeddings


def contrastive(shape, same, margin, positive_margin, squared) -> Loss:
    options = {"margin": margin, "positive_margin": positive_margin, "squared": squared}

    def torch_loss(torch, a, b):
        D = torch.nn.functional.pairwise_distance(a, b, eps=0)
        D, power = (D * D, 1) if squared else (D, 2)
        near, far = torch.relu(D - positive_margin) ** power, torch.relu(margin - D) ** power
        return torch.where(torch.tensor(same), near, far) / 2

    def plain(a, b):
        D = jnp.vecdot(a - b, a - b) if squared else jnp.linalg.norm(a - b, axis=-1)
        power = 1 if squared else 2
        y = jnp.asarray(same, D.dtype)
        near, far = jnp.maximum(D - positive_margin, 0), jnp.maximum(margin - D, 0)
        return 0.5 * (y * near**power + (1 - y) * far**power)

    f = reference.contrastive_squared if squared else reference.contrastive
    return Loss(
        lambda a, b, **common: ops.contrastive_loss(a, b, same, **options, **common),
        normal(shape, shape),
        torch_loss,
        plain,
        **per_example(lambda a, b, y: f(a, b, y, margin, positive_margin), len(shape) - 1, same),
    )


def cosine(shape, same, margin) -> Loss:
    def torch_loss(torch, a, b):
        y = torch.tensor(2 * same.reshape(-1) - 1)
        f = torch.nn.functional.cosine_embedding_loss
        rows = (v.reshape(-1, shape[-1]) for v in (a, b))
        return f(*rows, y, margin=margin, reduction="none").reshape(shape[:-1])

    def plain(a, b):
        length = lambda v: jnp.linalg.norm(v, axis=-1)  # noqa: E731
        c = jnp.vecdot(a, b) / (length(a) * length(b))
        return jnp.where(same, 1 - c, jnp.maximum(c - margin, 0))

    return Loss(
        lambda a, b, **common: ops.cosine_embedding_loss(a, b, same, margin=margin, **common),
        normal(shape, shape),
        torch_loss,
        plain,
        **per_example(
            lambda a, b, y: reference.cosine_embedding(a, b, y, margin), len(shape) - 1, same
        ),
    )


def triplet(shape, margin, squared) -> Loss:
    def torch_loss(torch, a, p, n):
        if squared:
            return torch.relu(margin + ((a - p) ** 2).sum(-1) - ((a - n) ** 2).sum(-1))
        f = torch.nn.functional.triplet_margin_loss
        return f(a, p, n, margin=margin, eps=0, reduction="none")

    def plain(a, p, n):
        length = lambda v: jnp.linalg.norm(v, axis=-1)  # noqa: E731
        near, far = length(a - p), length(a - n)
        near, far = (near**2, far**2) if squared else (near, far)
        return jnp.maximum(0, margin + near - far)

    return Loss(
        lambda a, p, n, **common: ops.triplet_loss(
            a, p, n, margin=margin, squared=squared, **common
        ),
        normal(shape, shape, shape),
        torch_loss,
        plain,
        **per_example(lambda a, p, n: reference.triplet(a, p, n, margin, squared), len(shape) - 1),
    )


def mined(semi_hard, labels, D, margin, squared) -> Loss:
    """Both miners; the plain and the PyTorch form write every triplet out."""
    N = len(labels)
    function = ops.semi_hard_triplet_loss if semi_hard else ops.batch_hard_triplet_loss
    find = batches.semi_hard if semi_hard else batches.hardest
    shape = (N, N) if semi_hard else (N,)
    negatives = [[n for n in range(N) if labels[n] != labels[a]] for a in range(N)]
    positives = [[p for p in range(N) if labels[p] == labels[a] and p != a] for a in range(N)]
    there = np.zeros(shape)
    for a in range(N):
        if negatives[a] and positives[a]:
            there[(a, positives[a]) if semi_hard else a] = 1

    def written_out(distance, relu, zero, stack, inf, where):
        rows = []
        for a in range(N):
            to = lambda others, a=a: stack([distance(a, j) for j in others])  # noqa: E731
            if not (negatives[a] and positives[a]):
                rows += [zero] * (N if semi_hard else 1)
            elif not semi_hard:
                rows.append(relu(margin + to(positives[a]).max() - to(negatives[a]).min()))
            else:
                far = to(negatives[a])
                for p in range(N):
                    if p not in positives[a]:
                        rows.append(zero)
                        continue
                    d = distance(a, p)
                    beyond = where(far > d, far, inf).min()
                    rows.append(relu(margin + d - where(beyond < inf, beyond, far.max())))
        return stack(rows).reshape(shape)

    def torch_loss(torch, x):
        D = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
        D = D**2 if squared else D
        pick = lambda a, j: D[a, j]  # noqa: E731
        zero = 0 * x.sum()
        return written_out(pick, torch.relu, zero, torch.stack, torch.inf, torch.where)

    def plain(x):
        def distance(a, j):
            d = jnp.linalg.norm(x[a] - x[j])
            return d**2 if squared else d

        relu = lambda v: jnp.maximum(v, 0)  # noqa: E731
        return written_out(distance, relu, jnp.zeros((), x.dtype), jnp.stack, jnp.inf, jnp.where)

    def weigh(w):
        w = np.ones(N) if w is None else w.astype(np.float64)
        return there * (np.outer(w, w) if semi_hard else w)

    return Loss(
        lambda x, **common: function(x, labels, margin=margin, squared=squared, **common),
        normal((N, D)),
        torch_loss,
        plain,
        loops=lambda x: batches.mined(find(x, labels, squared), x, shape, margin, squared),
        loops_grad=lambda g, x: (
            batches.mined_grads(find(x, labels, squared), x, g, margin, squared),
        ),
        weigh=weigh,
    )


def angular_margin(labels, D, K, scale, margin, in_angle) -> Loss:
    """ArcFace's margin in the angle, or CosFace's in its cosine."""
    function = ops.arcface_loss if in_angle else ops.cosface_loss
    rows = np.arange(len(labels))

    def torch_loss(torch, x, W):
        F = torch.nn.functional
        c = F.normalize(x) @ F.normalize(W, dim=0)
        own = c[rows, labels]
        theta = torch.arccos(own)
        inside = theta + margin < np.pi
        beyond = own - margin * np.sin(margin)
        own = torch.where(inside, torch.cos(theta + margin), beyond) if in_angle else own - margin
        hit = F.one_hot(torch.tensor(labels).long(), K).bool()
        z = scale * torch.where(hit, own[:, None], c)
        return F.cross_entropy(z, torch.tensor(labels).long(), reduction="none")

    def plain(x, W):
        unit = x / jnp.linalg.norm(x, axis=1, keepdims=True)
        c = unit @ (W / jnp.linalg.norm(W, axis=0, keepdims=True))
        own = c[rows, labels]
        theta = jnp.arccos(own)
        angle = jnp.where(
            theta + margin < np.pi, jnp.cos(theta + margin), own - margin * np.sin(margin)
        )
        z = scale * c.at[rows, labels].set(angle if in_angle else own - margin)
        return jnp.log(jnp.exp(z).sum(axis=1)) - z[rows, labels]

    each = lambda x, W: batches.angular_margin(x, W, labels, scale, margin, in_angle)  # noqa: E731

    def loops_grad(g, x, W):
        found = each(x, W)
        gx = np.stack([g_n * own for g_n, (_, own, _) in zip(g, found, strict=True)])
        return gx, sum(g_n * shared for g_n, (_, _, shared) in zip(g, found, strict=True))

    return Loss(
        lambda x, W, **common: function(x, W, labels, scale=scale, margin=margin, **common),
        normal((len(labels), D), (D, K)),
        torch_loss,
        plain,
        loops=lambda x, W: np.array([loss for loss, _, _ in each(x, W)]),
        loops_grad=loops_grad,
    )


# --------------------------------------------------------------- of a batch: no loss per example


def batch_entry(op, case, function, draw_x, plain, torch, loops, loops_grad, weighted):
    """Functions of x and w; w is an argument, or ones."""

    def draw(rng):
        x = draw_x(rng)
        return x, rng.uniform(0.5, 2, len(x))

    if weighted:
        return Entry(
            op,
            case,
            function,
            draw,
            plain=plain,
            loops=lambda x, w: np.array(loops(x, w)),
            loops_grad=lambda g, x, w: tuple(g * a for a in loops_grad(x, w)),
            torch=torch,
        )
    return Entry(
        op,
        case,
        lambda x: function(x, None),
        lambda rng: (draw_x(rng),),
        plain=lambda x: plain(x, jnp.ones(len(x), x.dtype)),
        loops=lambda x: np.array(loops(x, np.ones(len(x)))),
        loops_grad=lambda g, x: (g * loops_grad(x, np.ones(len(x)))[0],),
        torch=lambda torch_, x: torch(torch_, x, torch_.ones(len(x), dtype=x.dtype)),
    )


def histogram_functions(labels, bins):
    """function, plain, torch, loops, loops_grad; of x and w."""
    i, j = np.triu_indices(len(labels), 1)
    same = labels[i] == labels[j]

    def plain(x, w):
        """The two nodes beside each similarity; each pair once."""
        unit = x / jnp.linalg.norm(x, axis=1, keepdims=True)
        position = (1 + jnp.sum(unit[i] * unit[j], axis=1)) / 2 * (bins - 1)
        r = jnp.floor(position)
        share = (position - r)[:, None]
        node = jnp.arange(bins, dtype=x.dtype)[None]
        low, high = ((r[:, None] + k == node).astype(x.dtype) for k in (0, 1))
        each = (w[i] * w[j])[:, None] * (low * (1 - share) + high * share)
        h_one, h_two = (each[kind].sum(0) / (w[i] * w[j])[kind].sum() for kind in (same, ~same))
        return jnp.sum(h_two[:, None] * h_one[None] * jnp.tri(bins, dtype=x.dtype))

    def torch_loss(torch, x, w):
        """As the paper's own implementation: the nodes by indices."""
        unit = torch.nn.functional.normalize(x)
        position = ((unit @ unit.T)[i, j] + 1) * (bins - 1) / 2
        r = position.detach().floor().long().clamp(0, bins - 2)
        p = w[i] * w[j]
        h = []
        for kind in map(torch.tensor, (same, ~same)):
            own = torch.zeros(bins, dtype=x.dtype)
            own = own.index_add(0, r[kind], ((r + 1 - position) * p)[kind])
            own = own.index_add(0, r[kind] + 1, ((position - r) * p)[kind])
            h.append(own / p[kind].sum())
        return (h[1] * torch.cumsum(h[0], 0)).sum()

    return (
        lambda x, w: ops.histogram_loss(x, labels, bins=bins, weights=w),
        plain,
        torch_loss,
        lambda x, w: batches.histogram_loss(x, labels, bins, w),
        lambda x, w: batches.histogram_grads(x, labels, bins, w),
    )


def histogram(case, labels, D, bins, weighted=False):
    function, *oracles = histogram_functions(np.array(labels, np.int32), bins)
    draw = lambda rng: rng.standard_normal((len(labels), D))  # noqa: E731
    return batch_entry("histogram_loss", case, function, draw, *oracles, weighted)


def lda_functions(labels, K, D, regularization, epsilon):
    """function, plain, torch, loops, loops_grad; of x and w."""
    present = sorted(set(labels.tolist()))
    rank = min(len(present) - 1, D)

    def scatter(x, w, outer):
        """Of JAX and PyTorch: deviations times the roots of their weights."""
        share, W = w / w.sum(), w.sum()
        mean = (share[:, None] * x).sum(0)
        between, within = 0, 0
        for c in present:
            own = np.flatnonzero(labels == c)
            w_c = w[own]
            mean_c = (w_c[:, None] * x[own]).sum(0) / w_c.sum()
            between = between + w_c.sum() / W * outer(mean_c - mean, mean_c - mean)
            for i in own:
                within = within + share[i] * outer(x[i] - mean_c, x[i] - mean_c)
        return between, within

    def plain(x, w):
        """In D dimensions, or where zeros are many there, in those of the classes."""
        between, within = scatter(x, w, jnp.outer)
        inverse = jnp.linalg.inv(within + regularization * jnp.eye(D, dtype=x.dtype))
        if D - rank <= 1:
            root = jnp.linalg.cholesky(inverse)
            M = root.T @ between @ root
        else:
            member = jnp.asarray(labels[None] == np.array(present)[:, None], x.dtype) * w[None]
            share = member.sum(1) / w.sum()
            means = (member @ x) / member.sum(1, keepdims=True)
            B = jnp.sqrt(share)[:, None] * (means - (share @ means)[None])
            M = B @ inverse @ B.T
        v = jnp.linalg.eigh(M)[0][-rank:]
        return -jnp.mean(v, where=v < v[0] + epsilon)

    def torch_loss(torch, x, w):
        between, within = scatter(x, w, torch.outer)
        L = torch.linalg.cholesky(within + regularization * torch.eye(D, dtype=x.dtype))
        half = torch.linalg.solve_triangular(L, between, upper=False)
        M = torch.linalg.solve_triangular(L, half.T, upper=False)
        v = torch.linalg.eigvalsh((M + M.T) / 2)[-rank:]
        return -v[v < v[0] + epsilon].mean()

    options = {"regularization": regularization, "epsilon": epsilon}
    return (
        lambda x, w: ops.lda_loss(x, labels, K, weights=w, **options),
        plain,
        torch_loss,
        lambda x, w: batches.lda_loss(x, labels, regularization, epsilon, w),
        lambda x, w: batches.lda_grads(x, labels, regularization, epsilon, w),
    )


def spread(labels, D):
    """Classes in all directions, as far apart as they are wide: no eigenvalue is near zero."""
    c = np.arange(10)
    centers = np.zeros((10, D))
    centers[c, c % D] = 2.0 * (-1) ** (c // D)
    return lambda rng: centers[labels] + rng.standard_normal((len(labels), D))


def lda(case, labels, K, D, epsilon, weighted=False):
    labels = np.array(labels, np.int32)
    function, *oracles = lda_functions(labels, K, D, 0.1, epsilon)
    return batch_entry("lda_loss", case, function, spread(labels, D), *oracles, weighted)
