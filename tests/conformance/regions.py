"""Regions of feature maps: aligned, pooled, on a pyramid; masks pasted and cropped."""

from functools import partial
from math import ceil

import jax.numpy as jnp
import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from convax import ops
from tests.reference import roi as reference

from .entry import Entry, Problem
from .random import DTYPES, rng_of

# ----------------------------------------------------------------------------- plain formulations


def spans(boxes, scale, aligned):
    """(start, length) of every box along y and along x."""
    for low, high in ((1, 3), (0, 2)):
        start, length = boxes[:, low] * scale, (boxes[:, high] - boxes[:, low]) * scale
        yield (start - 0.5, length) if aligned else (start, jnp.maximum(length, 1))


def plain_weights(start, length, bins, size, S):
    """(R, bins, size): the mean of max(0, 1 - |y - i|) over the samples, y held inside the map."""
    of = lambda n, *shape: jnp.arange(n, dtype=start.dtype).reshape(shape)  # noqa: E731
    p, k, i = of(bins, 1, -1, 1, 1), of(S or 12, 1, 1, -1, 1), of(size, 1, 1, 1, -1)
    start, length = start[:, None, None, None], length[:, None, None, None]
    count = jnp.maximum(jnp.ceil(length / bins), 1) if S == 0 else jnp.full_like(length, S)
    y = start + (p + (k + 0.5) / count) * length / bins
    inside = (y >= -1) & (y <= size) & (k < count)
    hat = jnp.maximum(1 - jnp.abs(jnp.clip(y, 0, size - 1) - i), 0)
    return jnp.sum(jnp.where(inside, hat, 0) / count, axis=2)


def plain_align(output_size, spatial_scale=1.0, sampling_ratio=2, aligned=True):
    def function(x, boxes):
        Y, X = (
            plain_weights(*span, bins, size, sampling_ratio)
            for span, bins, size in zip(
                spans(boxes, spatial_scale, aligned), output_size, x.shape, strict=False
            )
        )
        return jnp.einsum("rpi,rqj,ijc->rpqc", Y, X, x)

    return function


def plain_multilevel(levels, output_size, spatial_scales, **how):
    def function(*arrays):
        *maps, boxes = arrays
        out = [
            plain_align(output_size, spatial_scales[n], **how)(maps[n], boxes[r : r + 1])
            for r, n in enumerate(levels)
        ]
        return jnp.concatenate(out)

    return function


def plain_pool(output_size, spatial_scale=1.0):
    """The maximum of what a bin has, element by element of the map."""

    def function(x, boxes):
        a = jnp.floor(boxes * spatial_scale + 0.5)  # of what is not negative
        inside = []
        for low, high, bins, size in ((1, 3, output_size[0], 0), (0, 2, output_size[1], 1)):
            p = jnp.arange(bins, dtype=x.dtype)[None, :, None]
            i = jnp.arange(x.shape[size], dtype=x.dtype)[None, None]
            begin, h = a[:, low, None, None], (a[:, high] - a[:, low] + 1)[:, None, None]
            first, last = begin + jnp.floor(p * h / bins), begin + jnp.ceil((p + 1) * h / bins)
            inside.append((i >= first) & (i < last))
        rows, columns = inside
        both = rows[:, :, None, :, None] & columns[:, None, :, None, :]
        return jnp.max(jnp.where(both[..., None], x[None, None, None], -jnp.inf), axis=(3, 4))

    return function


def plain_pyramid(levels, spatial_scale=1.0):
    def function(x, boxes):
        pools = [plain_pool((n, n), spatial_scale)(x, boxes) for n in levels]
        return jnp.concatenate([y.reshape(boxes.shape[0], -1) for y in pools], axis=1)

    return function


def plain_paste(image_size):
    def hats(low, high, pixels, elements):
        i = jnp.arange(pixels, dtype=low.dtype)[None, :, None]
        a = jnp.arange(elements, dtype=low.dtype)[None, None]
        low, high = low[:, None, None], high[:, None, None]
        return jnp.maximum(0, 1 - jnp.abs((i + 0.5 - low) / (high - low) * elements - 0.5 - a))

    def function(masks, boxes):
        Y = hats(boxes[:, 1], boxes[:, 3], image_size[0], masks.shape[1])
        X = hats(boxes[:, 0], boxes[:, 2], image_size[1], masks.shape[2])
        return jnp.einsum("dia,djb,dab->dij", Y, X, masks)

    return function


# --------------------------------------------------------------------------------------- PyTorch


def torch_places(torch, low, high, bins, sampling_ratio, aligned):
    """The places of a bin's samples along an axis, (bins, samples)."""
    if aligned:
        low, length = low - 0.5, high - low
    else:
        length = torch.clamp(high - low, min=1)
    S = sampling_ratio or ceil(length.item() / bins)
    p, k = torch.arange(bins, dtype=low.dtype), torch.arange(S, dtype=low.dtype)
    return low + (p[:, None] + (k + 0.5) / S) * length / bins


def torch_align(output_size, spatial_scale=1.0, sampling_ratio=2, aligned=True):
    """By `grid_sample`, which holds places inside the map; those far beyond count as zero."""

    def function(torch, x, boxes):
        (H, W), out = x.shape[:2], []
        image = torch.movedim(x, -1, 0)[None]
        for x1, y1, x2, y2 in boxes * spatial_scale:
            ys = torch_places(torch, y1, y2, output_size[0], sampling_ratio, aligned)
            xs = torch_places(torch, x1, x2, output_size[1], sampling_ratio, aligned)
            y, x_ = torch.broadcast_tensors(ys[:, :, None, None], xs[None, None])
            inside = (y >= -1) & (y <= H) & (x_ >= -1) & (x_ <= W)
            grid = torch.stack([2 * x_ / max(W - 1, 1) - 1, 2 * y / max(H - 1, 1) - 1], -1)
            grid = grid.reshape(1, -1, 1, 2)
            read = torch.nn.functional.grid_sample(
                image, grid, mode="bilinear", padding_mode="border", align_corners=True
            )
            read = read[0, :, :, 0].T.reshape(*y.shape, -1) * inside[..., None]
            out.append(read.mean((1, 3)))
        return torch.stack(out)

    return function


def torch_multilevel(levels, output_size, spatial_scales, **how):
    def function(torch, *tensors):
        *maps, boxes = tensors
        out = [
            torch_align(output_size, spatial_scales[n], **how)(torch, maps[n], boxes[r : r + 1])
            for r, n in enumerate(levels)
        ]
        return torch.cat(out)

    return function


def torch_pool(output_size, spatial_scale=1.0):
    """`adaptive_max_pool2d`, which has the same bins, of the region: it has to be inside the map."""

    def function(torch, x, boxes):
        out = []
        for box in boxes.tolist():
            x1, y1, x2, y2 = (reference.nearest(a * spatial_scale) for a in box)
            region = torch.movedim(x[y1 : max(y2, y1) + 1, x1 : max(x2, x1) + 1], -1, 0)
            out.append(torch.nn.functional.adaptive_max_pool2d(region, output_size))
        return torch.movedim(torch.stack(out), 1, -1)

    return function


def torch_pyramid(levels, spatial_scale=1.0):
    def function(torch, x, boxes):
        pools = [torch_pool((n, n), spatial_scale)(torch, x, boxes) for n in levels]
        return torch.cat([y.reshape(len(boxes), -1) for y in pools], 1)

    return function


def torch_paste(image_size):
    """By `grid_sample`, as detectron2 does it."""

    def function(torch, masks, boxes):
        out = []

        def along(low, high, pixels):
            return (torch.arange(pixels, dtype=low.dtype) + 0.5 - low) / (high - low) * 2 - 1

        for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
            y, x = along(y1, y2, image_size[0]), along(x1, x2, image_size[1])
            grid = torch.stack(torch.broadcast_tensors(x[None], y[:, None]), -1)[None]
            out.append(
                torch.nn.functional.grid_sample(mask[None, None], grid, align_corners=False)[0, 0]
            )
        return torch.stack(out)

    return function


# --------------------------------------------------------------------------------------- entries


def draw_boxes(rng, size, count, zero=False):
    """Boxes in the image (H, W), of several pixels; the last of them nothing but padding."""
    H, W = size
    low, high = rng.uniform(0.05, 0.35, (count, 2)), rng.uniform(0.6, 0.95, (count, 2))
    boxes = np.concatenate([low, high], axis=1) * (W, H, W, H)
    if zero:
        boxes[-1] = 0
    return boxes


def align_entry(case, zero=False, **how):
    shape, output_size = (4, 5, 2), (2, 3)
    how = dict(spatial_scale=0.5) | how
    return Entry(
        *("roi_align", case),
        lambda x, boxes: ops.roi_align(x, boxes, output_size, **how),
        lambda rng: (rng.standard_normal(shape), draw_boxes(rng, (8, 10), 2 + zero, zero)),
        plain_align(output_size, **how),
        lambda x, boxes: reference.roi_align(x, boxes, output_size, **how),
        lambda g, x, boxes: reference.roi_align_grad(g, x, boxes, output_size, **how),
        torch_align(output_size, **how),
    )


def multilevel_entry(case, **how):
    shapes, levels, output_size = [(4, 5, 1), (2, 3, 1)], np.array([1, 0]), (2, 2)
    how |= dict(spatial_scales=(0.5, 0.25))
    split = lambda f: lambda *arrays: f(arrays[:-1], arrays[-1], levels, output_size, **how)  # noqa: E731
    return Entry(
        *("multilevel_roi_align", case, split(ops.multilevel_roi_align)),
        lambda rng: (*map(rng.standard_normal, shapes), draw_boxes(rng, (8, 10), 2)),
        plain_multilevel(levels, output_size, **how),
        split(reference.multilevel_roi_align),
        lambda g, *arrays: split(partial(reference.multilevel_roi_align_grad, g))(*arrays),
        torch_multilevel(levels, output_size, **how),
    )


def pool_entry(op, case, bins, plain, torch):
    how = dict(spatial_scale=0.5)
    loops, grad = getattr(reference, op), getattr(reference, f"{op}_grad")
    return Entry(
        *(op, case),
        lambda x, boxes: getattr(ops, op)(x, boxes, bins, **how),
        # half the map, so that what is half as large again is inside it, too
        lambda rng: (rng.standard_normal((5, 6, 1)), draw_boxes(rng, (5, 6), 2)),
        plain(bins, **how),
        lambda x, boxes: loops(x, boxes, bins, **how),
        lambda g, x, boxes: grad(g, x, boxes, bins, **how),
        torch(bins, **how),
    )


def paste_entry():
    image_size = (6, 5)
    return Entry(
        *("paste_masks", ""),
        lambda masks, boxes: ops.paste_masks(masks, boxes, image_size),
        lambda rng: (rng.standard_normal((2, 3, 2)), draw_boxes(rng, image_size, 2)),
        plain_paste(image_size),
        lambda masks, boxes: reference.paste_masks(masks, boxes, image_size),
        lambda g, masks, boxes: reference.paste_masks_grad(g, masks, boxes, image_size),
        torch_paste(image_size),
    )


def crop_entry():
    output_size, how = (2, 3), dict(sampling_ratio=0, aligned=True)
    ids = np.random.default_rng(0).integers(0, 3, (9, 8)).astype(np.uint8)
    which = np.array([1, 0, -1])
    masks = ((ids == which[:, None, None] + 1) & (which[:, None, None] >= 0)).astype(float)
    cropped = lambda boxes: reference.crop_masks(ids, which, boxes, output_size)  # noqa: E731

    def plain(boxes):
        align = plain_align(output_size, **how)
        pairs = zip(masks, boxes, strict=True)
        return jnp.concatenate([align(m[..., None], box[None])[..., 0] for m, box in pairs])

    def torch_crop(torch, boxes):
        align = partial(torch_align(output_size, **how), torch)
        pairs = zip(torch.tensor(masks, dtype=boxes.dtype), boxes, strict=True)
        return torch.cat([align(m[..., None], box[None])[..., 0] for m, box in pairs])

    return Entry(
        *("crop_masks", "", lambda boxes: ops.crop_masks(ids, which, boxes, output_size)),
        lambda rng: (draw_boxes(rng, ids.shape, 3),),
        *(plain, cropped, lambda g, boxes: (reference.by_differences(cropped, g, boxes),)),
        torch_crop,
    )


ENTRIES = [
    # taps; products; taps of several maps
    align_entry("aligned", zero=True),
    align_entry("not aligned", sampling_ratio=1, aligned=False),
    align_entry("adaptive", sampling_ratio=0, spatial_scale=1.0),
    multilevel_entry("", sampling_ratio=1),
    pool_entry("roi_pool", "", (2, 3), plain_pool, torch_pool),
    pool_entry("roi_pyramid_pool", "", (2, 1), plain_pyramid, torch_pyramid),
    paste_entry(),
    crop_entry(),
]


# ----------------------------------------------------------------------------------------- drawn


@st.composite
def problems(draw):
    """Any of them, with boxes partly or wholly outside and of any size, whose gradient is not asked."""
    op = draw(st.sampled_from(["roi_align", "roi_align", "roi_pool", "paste_masks"]))
    H, W, R, C = (draw(st.integers(1, n)) for n in (9, 9, 4, 3))
    output_size = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    rng = rng_of(draw)
    scale = draw(st.sampled_from([1.0, 0.5, 0.0625, 0.3]))
    # Exact in float32, so that both sides begin with the same.
    places = np.sort(rng.uniform(-0.4, 1.4, (R, 2, 2)), axis=1).reshape(R, 4) * (W, H, W, H)
    boxes = (places / scale).astype(np.float32).astype(float)
    how = dict(spatial_scale=scale)
    shape: tuple[int, ...] = (H, W, C)
    if op == "roi_align":
        how |= dict(sampling_ratio=draw(st.sampled_from([0, 1, 2, 5])), aligned=draw(st.booleans()))
        # Where rounding decides whether a sample is inside, each side may decide for itself.
        assume(min(reference.edge_distance(boxes, shape, output_size, **how)) > 1e-3)
        torch = torch_align(output_size, **how)
    elif op == "roi_pool":
        boxes = np.clip(boxes, 0, (np.array([W, H, W, H]) - 1) / scale)
        boxes = boxes.astype(np.float32).astype(float)
        torch = torch_pool(output_size, **how)
    else:
        boxes, how, shape = boxes * scale, {}, (R, H, W)
        torch = torch_paste(output_size)
    function = lambda x: getattr(ops, op)(x, jnp.asarray(boxes), output_size, **how)  # noqa: E731
    dtype = draw(st.sampled_from(DTYPES))
    ties = op == "roi_pool" and draw(st.booleans())
    x = rng.integers(-3, 3, shape).astype(float) if ties else rng.standard_normal(shape)

    def oracle(t, x):
        return torch(t, x, t.tensor(boxes, dtype=x.dtype))

    return Problem(function, (x,), oracle, dtype, f"{op} of {shape} {dtype} {output_size} {how}")
