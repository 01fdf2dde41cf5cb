"""The feature pyramid by its equation, for sizes that halving does not divide."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convax import model


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_a_pyramid_adds_what_is_coarser(norm, rng):
    sizes = {"a": (7, 10), "b": (4, 5), "c": (2, 3)}
    maps = {
        name: jnp.asarray(rng.normal(size=(2, *size, n + 2)), jnp.float32)
        for n, (name, size) in enumerate(sizes.items())
    }
    net = model.fpn(["a", "b", "c"], 4, norm=norm)
    shapes, params, state = net.init(jax.random.key(0), {k: v.shape for k, v in maps.items()})
    out, _ = net.apply(params, state, maps)
    assert {name: y.shape for name, y in out.items()} == shapes
    assert list(shapes) == ["p2", "p3", "p4", "p5"] and shapes["p5"] == (2, 1, 2, 4)
    np.testing.assert_array_equal(out["p5"], out["p4"][:, ::2, ::2])
    if norm == "none":
        weights = {k: np.asarray(v["kernel"])[0, 0] for k, v in params.items() if k[0] == "l"}
        merged = np.asarray(maps["c"]) @ weights["lateral3"]
        for name, part in (("b", "lateral2"), ("a", "lateral1")):
            h, w = sizes[name]
            rows = np.arange(h) * merged.shape[1] // h
            columns = np.arange(w) * merged.shape[2] // w
            merged = np.asarray(maps[name]) @ weights[part] + merged[:, rows][:, :, columns]
        finest, _ = model.conv(4, 3, padding=1).apply(params["output1"], {}, jnp.asarray(merged))
        np.testing.assert_allclose(out["p2"], finest, atol=1e-4)


def test_a_pyramid_needs_a_known_norm_and_features():
    with pytest.raises(ValueError, match="fpn: unknown norm: got 'layer'"):
        model.fpn(["a"], norm="layer")
    with pytest.raises(ValueError, match="fpn: bad features: got 0"):
        model.fpn(["a"], 0)
