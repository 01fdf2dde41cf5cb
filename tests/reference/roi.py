"""Regions of feature maps, one sample, one bin or one pixel at a time; maps (H, W, C), boxes (R, 4)."""

from math import ceil, floor

import numpy as np

# ------------------------------------------------------------------------------------ RoIAlign


def weights(y, size):
    """What a sample at `y` reads along an axis: [(element, weight), ...]."""
    if not -1 <= y <= size:
        return []
    y = max(y, 0)
    low = floor(y)
    if low >= size - 1:
        return [(size - 1, 1.0)]
    return [(low, 1 - (y - low)), (low + 1, y - low)]


def samples(start, stop, bins, sampling_ratio, aligned):
    """The places of the samples of each bin, from the ends of a region in elements."""
    if aligned:
        start, stop = start - 0.5, stop - 0.5
    length = stop - start if aligned else max(stop - start, 1.0)
    count = sampling_ratio or max(ceil(length / bins), 0)
    return [
        [start + (p + (k + 0.5) / count) * length / bins for k in range(count)] for p in range(bins)
    ]


def reads(box, shape, output_size, spatial_scale=1.0, sampling_ratio=2, aligned=True):
    """Per bin (p, q) of a box all that it reads: [(i, j, weight), ...]."""
    x1, y1, x2, y2 = (float(a) * spatial_scale for a in box)
    rows = samples(y1, y2, output_size[0], sampling_ratio, aligned)
    columns = samples(x1, x2, output_size[1], sampling_ratio, aligned)
    for p, ys in enumerate(rows):
        for q, xs in enumerate(columns):
            count = max(len(ys) * len(xs), 1)
            yield (
                p,
                q,
                [
                    (i, j, wy * wx / count)
                    for y in ys
                    for i, wy in weights(y, shape[0])
                    for x in xs
                    for j, wx in weights(x, shape[1])
                ],
            )


def roi_align(x, boxes, output_size, **how):
    """out[r, p, q] = sum of weight times element over what the bin reads."""
    out = np.zeros((len(boxes), *output_size, x.shape[-1]))
    for r, box in enumerate(boxes):
        for p, q, taps in reads(box, x.shape, output_size, **how):
            for i, j, w in taps:
                out[r, p, q] += w * x[i, j]
    return out


def roi_align_grad(g, x, boxes, output_size, **how):
    """Each element gets g back by the same weights; boxes by differences of the weights."""
    gx = np.zeros(x.shape)
    for r, box in enumerate(boxes):
        for p, q, taps in reads(box, x.shape, output_size, **how):
            for i, j, w in taps:
                gx[i, j] += w * g[r, p, q]
    return gx, by_differences(lambda boxes: roi_align(x, boxes, output_size, **how), g, boxes)


def by_differences(function, g, boxes, step=1e-5):
    """The gradient of sum(g * function(boxes)): exact but for rounding where it is of degree 2."""
    gb = np.zeros(boxes.shape)
    for at in np.ndindex(boxes.shape):
        ahead, behind = boxes.astype(float), boxes.astype(float)
        ahead[at] += step
        behind[at] -= step
        gb[at] = np.sum(g * (function(ahead) - function(behind))) / (2 * step)
    return gb


def edge_distance(boxes, shape, output_size, spatial_scale=1.0, sampling_ratio=2, aligned=True):
    """How far the nearest sample of each box is from a jump: -1 or the size of an axis, (R,).

    Where it is next to nothing, rounding decides whether the sample counts.
    """
    distance = np.full(len(boxes), np.inf)
    for r, box in enumerate(boxes):
        x1, y1, x2, y2 = (float(a) * spatial_scale for a in box)
        for low, high, bins, size in (
            (y1, y2, output_size[0], shape[0]),
            (x1, x2, output_size[1], shape[1]),
        ):
            for places in samples(low, high, bins, sampling_ratio, aligned):
                for y in places:
                    distance[r] = min(distance[r], abs(y + 1), abs(y - size))
    return distance


def multilevel_roi_align(maps, boxes, levels, output_size, *, spatial_scales, **how):
    """Each region on its own map."""
    out = [
        roi_align(maps[n], box[None], output_size, spatial_scale=spatial_scales[n], **how)
        for box, n in zip(boxes, levels, strict=True)
    ]
    return np.concatenate(out)


def multilevel_roi_align_grad(g, maps, boxes, levels, output_size, *, spatial_scales, **how):
    """The same, backward."""
    gmaps, gboxes = [np.zeros(x.shape) for x in maps], np.zeros(boxes.shape)
    for r, n in enumerate(levels):
        options = dict(spatial_scale=spatial_scales[n], **how)
        one = slice(r, r + 1)
        gx, gb = roi_align_grad(g[one], maps[n], boxes[one], output_size, **options)
        gmaps[n] += gx
        gboxes[one] = gb
    return *gmaps, gboxes


def roi_levels(boxes, *, k_min=2, k_max=5, canonical_scale=224, canonical_level=4):
    """clip(floor(k0 + log2(sqrt(area) / s0) + 1e-6), k_min, k_max) - k_min."""
    levels = []
    for x1, y1, x2, y2 in boxes.tolist():
        side = (max(x2 - x1, 0) * max(y2 - y1, 0)) ** 0.5
        level = canonical_level + np.log2(max(side, 1e-6) / canonical_scale) + 1e-6
        levels.append(min(max(floor(level), k_min), k_max) - k_min)
    return np.array(levels)


# ------------------------------------------------------------------------------------- RoIPool


def nearest(a):
    """The nearest whole number; of two the one further from zero."""
    return floor(a + 0.5) if a >= 0 else ceil(a - 0.5)


def pool_bins(box, shape, output_size, spatial_scale=1.0):
    """Per bin of a box, in row-major order, the elements in it, in row-major order."""
    x1, y1, x2, y2 = (nearest(float(a) * spatial_scale) for a in box)

    def along(low, high, bins, size):
        extent = max(high - low + 1, 1)
        for p in range(bins):
            first, last = low + p * extent // bins, low - (-(p + 1) * extent // bins)
            yield range(min(max(first, 0), size), min(max(last, 0), size))

    for rows in along(y1, y2, output_size[0], shape[0]):
        for columns in along(x1, x2, output_size[1], shape[1]):
            yield [(i, j) for i in rows for j in columns]


def roi_pool(x, boxes, output_size, spatial_scale=1.0):
    """The maximum over each bin; 0 for an empty one."""
    return _pool(x, boxes, output_size, spatial_scale)[0]


def roi_pool_grad(g, x, boxes, output_size, spatial_scale=1.0):
    """All of g goes to the first maximum; boxes have no gradient."""
    gx = np.zeros(x.shape)
    _, winners = _pool(x, boxes, output_size, spatial_scale)
    for (r, p, q, c), (i, j) in winners.items():
        gx[i, j, c] += g[r, p, q, c]
    return gx, np.zeros(boxes.shape)


def _pool(x, boxes, output_size, spatial_scale):
    out, winners = np.zeros((len(boxes), *output_size, x.shape[-1])), {}
    for r, box in enumerate(boxes):
        for n, inside in enumerate(pool_bins(box, x.shape, output_size, spatial_scale)):
            p, q = divmod(n, output_size[1])
            for c in range(x.shape[-1] if inside else 0):
                winner = inside[0]
                for at in inside:
                    first_nan = np.isnan(x[*at, c]) and not np.isnan(x[*winner, c])
                    if x[*at, c] > x[*winner, c] or first_nan:
                        winner = at
                out[r, p, q, c], winners[r, p, q, c] = x[*winner, c], winner
    return out, winners


def roi_pyramid_pool(x, boxes, levels, spatial_scale=1.0):
    """The levels one after the other, in each the bins in row-major order, in each the channels."""
    pools = [roi_pool(x, boxes, (n, n), spatial_scale) for n in levels]
    return np.concatenate([y.reshape(len(boxes), -1) for y in pools], axis=1)


def roi_pyramid_pool_grad(g, x, boxes, levels, spatial_scale=1.0):
    """The sum of what each level hands back of its part of g."""
    gx, start = np.zeros(x.shape), 0
    for n in levels:
        stop = start + n * n * x.shape[-1]
        part = g[:, start:stop].reshape(len(boxes), n, n, -1)
        gx += roi_pool_grad(part, x, boxes, (n, n), spatial_scale)[0]
        start = stop
    return gx, np.zeros(boxes.shape)


# --------------------------------------------------------------------------------------- masks


def hats(low, high, pixels, elements):
    """The weights of a mask's elements for each pixel along an axis, (pixels, elements)."""
    w = np.zeros((pixels, elements))
    for i in range(pixels if high > low else 0):
        u = (i + 0.5 - low) / (high - low) * elements - 0.5
        for a in range(elements):
            w[i, a] = max(0.0, 1 - abs(u - a))
    return w


def paste_masks(masks, boxes, image_size):
    """out[d, i, j] = sum over the mask of its elements, weighted along y and along x."""
    out = np.zeros((len(masks), *image_size))
    for d, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        Y = hats(y1, y2, image_size[0], masks.shape[1])
        X = hats(x1, x2, image_size[1], masks.shape[2])
        for i, j in np.ndindex(*image_size):
            for a, b in np.ndindex(*masks.shape[1:]):
                out[d, i, j] += Y[i, a] * X[j, b] * masks[d, a, b]
    return out


def paste_masks_grad(g, masks, boxes, image_size):
    """Each element of a mask collects g from the pixels that it is drawn into."""
    gm = np.zeros(masks.shape)
    for d, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        Y = hats(y1, y2, image_size[0], masks.shape[1])
        X = hats(x1, x2, image_size[1], masks.shape[2])
        for i, j in np.ndindex(*image_size):
            for a, b in np.ndindex(*masks.shape[1:]):
                gm[d, a, b] += Y[i, a] * X[j, b] * g[d, i, j]
    return gm, by_differences(lambda boxes: paste_masks(masks, boxes, image_size), g, boxes)


def crop_masks(ids, which, boxes, output_size, aligned=True):
    """The mask of one object under each box, by adaptive `roi_align`."""
    out = np.zeros((len(boxes), *output_size))
    for r, n in enumerate(which):
        mask = ((ids == n + 1) & (n >= 0)).astype(float)[:, :, None]
        how = dict(sampling_ratio=0, aligned=aligned)
        out[r] = roi_align(mask, boxes[r : r + 1], output_size, **how)[0, :, :, 0]
    return out
