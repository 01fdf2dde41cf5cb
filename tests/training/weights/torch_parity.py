"""Whether a network of ours with PyTorch's weights computes what PyTorch's does."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np

from convax.training.common.pytree_paths import named_leaves
from convax.training.weights.torch_state_dict import load_torch, save_torch, torch_mapping

# Of the largest value of a leaf. In training, gradients that are sums of much larger terms are
# compared in float64: what differs then is not rounding.
TOLERANCE = {"float32": 1e-5, "float64": 1e-10}


def randomize(torch, module, seed=0):
    """Random weights, and random statistics as after a training."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2.0, generator=generator)
            elif tensor.dtype.is_floating_point and tensor.ndim < 2:
                tensor.normal_(0.3, 0.5, generator=generator)
            elif tensor.dtype.is_floating_point:
                fan_in = tensor[0].numel()
                tensor.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
    return module


def assert_same_network(torch, module, net, image_shape, tmp_path, *, names=None, train=False):
    """Equal logits and gradients with PyTorch's weights, and the same state dict written back.

    In evaluation, with random running statistics, in float32; and if asked for in training, with
    the new statistics, in float64.
    """
    import safetensors.torch  # which needs PyTorch, an optional oracle

    randomize(torch, module)
    before = {name: t.clone() for name, t in module.state_dict().items()}
    file = tmp_path / "torch.safetensors"
    safetensors.torch.save_file(before, file)
    loaded = load_torch(file, net, (1, *image_shape), names=names)

    bridge = torch_mapping(net, (1, *image_shape), names)
    _compare(torch, module.eval(), net, image_shape, bridge, loaded, "float32")
    if train:
        _compare(torch, module.double().train(), net, image_shape, bridge, loaded, "float64")

    back = tmp_path / "back.safetensors"
    save_torch(back, net, (1, *image_shape), *loaded, names=names)
    again = safetensors.torch.load_file(back)
    assert again.keys() == before.keys()
    for name, tensor in before.items():
        assert (again[name].dtype, again[name].shape) == (tensor.dtype, tensor.shape), name
        assert torch.equal(again[name], tensor), name


def _compare(torch, module, net, image_shape, bridge, loaded, dtype):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, *image_shape)).astype(dtype)
    module.zero_grad()
    theirs = module(torch.tensor(np.moveaxis(x, -1, 1).copy()))
    weights = rng.normal(size=theirs.shape).astype(dtype)
    (theirs * torch.tensor(weights)).sum().backward()

    wide = jax.enable_x64(True) if dtype == "float64" else contextlib.nullcontext()
    with wide:
        params, state = jax.tree.map(lambda leaf: np.asarray(leaf, dtype), loaded)

        def ours(params):
            y, new = net.apply(params, state, x, train=module.training)
            y = jnp.moveaxis(y, -1, 1) if y.ndim > 2 else y
            return jnp.vdot(y, weights), (y, new)

        (_, (y, new)), grads = jax.jit(jax.value_and_grad(ours, has_aux=True))(params)
        written = bridge.to_torch(dict(named_leaves(grads)) | dict(named_leaves(new)))

    tolerance = TOLERANCE[dtype]
    of_logits = _relative_error(y, theirs.detach())
    assert of_logits < tolerance
    # Some are 0 but for rounding, as that of a bias in front of a batch norm in training.
    floor = 1e-3 * max(float(p.grad.abs().max()) for p in module.parameters())
    errors = {
        name: _relative_error(written[name], parameter.grad, floor)
        for name, parameter in module.named_parameters()
    }
    worst = max(errors, key=errors.__getitem__)
    assert errors[worst] < tolerance, (worst, errors[worst])
    for name, buffer in module.named_buffers():
        if not name.endswith("num_batches_tracked"):
            assert _relative_error(written[name], buffer) < tolerance, name
    print(f"{dtype}: logits {of_logits:.1e}, gradients {errors[worst]:.1e} ({worst})")


def _relative_error(actual, expected, floor=1e-30):
    """The largest difference, of the largest value; of `floor` where that is larger."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape
    return np.abs(actual - expected).max() / max(np.abs(expected).max(), floor)
