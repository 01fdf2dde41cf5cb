"""Maps, receptive fields, classic kernels, neighbors: against hand arithmetic and NumPy."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convax import explain, model

KEY = jax.random.key(3)


def test_feature_maps_are_those_of_the_layer(rng):
    net = model.serial(conv=model.conv(2, 1, bias=False), act=model.relu(), fc=model.flatten())
    kernel = np.array([[1.0, -1.0]], np.float32)
    x = rng.normal(size=(2, 3, 4, 1)).astype(np.float32)
    params = {"conv": {"kernel": jnp.asarray(kernel).reshape(1, 1, 1, 2)}}
    found = explain.feature_maps(net, params, {}, jnp.asarray(x), "act")
    np.testing.assert_allclose(found, np.maximum(x * kernel, 0), rtol=1e-6)
    with pytest.raises(ValueError, match="no layer at 'nothing'"):
        explain.feature_maps(net, params, {}, jnp.asarray(x), "nothing")
    with pytest.raises(
        ValueError, match=r"feature_maps: layer 'fc' has no map: got output \(2, 24"
    ):
        explain.feature_maps(net, params, {}, jnp.asarray(x), "fc")


def test_the_effective_field_of_linear_convolutions_is_their_kernel(rng):
    """Two convolutions of one channel are one, with the kernel k1 * k2."""
    net = model.serial(a=model.conv(1, 3, bias=False), b=model.conv(1, 3, stride=2, bias=False))
    k1, k2 = rng.normal(size=(2, 3, 3)).astype(np.float32)
    params = {n: {"kernel": jnp.asarray(k)[..., None, None]} for n, k in [("a", k1), ("b", k2)]}
    both = np.zeros((5, 5))
    for u in range(3):
        for v in range(3):
            both[u : u + 3, v : v + 3] += k2[u, v] * k1
    x = jnp.asarray(rng.normal(size=(3, 11, 9, 1)), jnp.float32)
    field = jax.jit(partial(explain.effective_receptive_field, net, layer="b"))(
        params, {}, x, at=jnp.array([2, 1]), key=KEY
    )
    expected = np.zeros((11, 9))
    expected[4:9, 2:7] = np.abs(both)
    np.testing.assert_allclose(field, expected, rtol=1e-4, atol=1e-6)
    assert explain.extent(field) == ((4, 8), (2, 6))
    assert explain.receptive_field_size(net, (11, 9, 1), "b") == (5, 5)


def test_the_effective_field_of_many_channels_is_the_jacobian_on_average(rng):
    net = model.serial(conv=model.conv(8, 3, padding=1))
    _, params, state = net.init(KEY, (1, 5, 5, 2))
    x = jnp.zeros((4000, 5, 5, 2))
    at = (2, 3)
    field = explain.effective_receptive_field(net, params, state, x, "conv", at, key=KEY)
    kernel = np.asarray(params["conv"]["kernel"])  # (3, 3, 2, 8)
    expected = np.zeros((5, 5))
    expected[1:4, 2:5] = np.sqrt((kernel**2).sum((2, 3)))
    np.testing.assert_allclose(field, expected, rtol=0.05)
    for bad in [(5, 0), (-1, 0), (1,)]:
        with pytest.raises(ValueError, match=r"at: got .*, need an element of a map of \(5, 5\)"):
            explain.effective_receptive_field(net, params, state, x[:1], "conv", bad, key=KEY)


def test_the_size_of_a_field_of_a_block_is_that_of_its_longest_branch():
    net = model.resnet_cifar(10, depth=8)
    # 1 + 2 (conv1) + 4 (stage 1) + 2 + 4 (stage 2, stride 2) + 4 + 8 (stage 3, stride 4)
    assert explain.receptive_field_size(net, (32, 32, 3), "stage1") == (7, 7)
    assert explain.receptive_field_size(net, (32, 32, 3), "stage2") == (13, 13)
    assert explain.receptive_field_size(net, (32, 32, 3), "stage3") == (25, 25)
    odd = model.serial(odd=model.stateless("odd", lambda x: x[:, ::-1], None))
    assert explain.receptive_field_size(odd, (8, 8, 1), "odd") is None


def test_which_maps_are_shown():
    wide = model.serial(**{f"conv{n}": model.conv(2, 1) for n in range(20)})
    found = explain.select_layers(wide, (1, 4, 4, 1), most=4)
    assert found == ["conv0", "conv6", "conv13", "conv19"]
    stack = model.dilated(10, features=2, dilations=[1, 2])
    assert explain.select_layers(stack, (1, 8, 8, 1)) == ["stack/act1", "stack"]
    fcn = model.fcn(3, backbone="resnet18", stride=32, hidden=0)  # a head of several maps
    assert explain.last_map_layer(fcn, (1, 32, 32, 3)) == "head"


def test_classic_kernels_on_a_picture(rng):
    x = rng.random((2, 5, 7, 3)).astype(np.float32)
    for name, kernel in explain.CLASSIC.items():
        found = explain.apply_kernel(jnp.asarray(x), kernel)
        KH, KW = kernel.shape
        padded = np.pad(x, ((0, 0), (KH // 2,) * 2, (KW // 2,) * 2, (0, 0)), mode="edge")
        expected = sum(
            kernel[u, v] * padded[:, u : u + 5, v : v + 7] for u in range(KH) for v in range(KW)
        )
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5, err_msg=name)
    sums = {name: round(float(kernel.sum()), 5) for name, kernel in explain.CLASSIC.items()}
    edges = {"Sobel, across", "Sobel, down", "Laplacian"}  # nothing where nothing changes
    assert sums == {name: 0.0 if name in edges else 1.0 for name in explain.CLASSIC}
    with pytest.raises(ValueError, match=r"apply_kernel: kernel: got \(2, 3\), need two odd"):
        explain.apply_kernel(jnp.asarray(x), np.ones((2, 3)))


def test_neighbors_are_the_nearest_in_order(rng):
    gallery, place = rng.normal(size=(30, 4)), rng.normal(size=4)
    found = explain.nearest_neighbors(place, gallery, 30)
    distances = [float(np.sqrt(((v - place) ** 2).sum())) for v in gallery]
    assert found.examples.tolist() == sorted(range(30), key=lambda m: distances[m])
    np.testing.assert_allclose(found.distances, sorted(distances))
    for k in (0, 31):
        with pytest.raises(ValueError, match=f"nearest_neighbors: k: got {k}, need 1 to 30"):
            explain.nearest_neighbors(place, gallery, k)
    with pytest.raises(ValueError, match=r"got \(3,\) and a gallery \(30, 4\), need \(D,\)"):
        explain.nearest_neighbors(place[:3], gallery, 1)
