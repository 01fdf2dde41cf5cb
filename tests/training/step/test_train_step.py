"""All recipes of training in one run: they go together, and a run that was stopped goes on alike."""

import jax
import numpy as np
import pytest

import convax
from convax.training.config.schema import load_config
from convax.training.experiment import make_step_spec, prepare
from convax.training.loop.signals import InterruptedRun
from convax.training.step.train_step import make_train_step
from tests.training.loop.test_loop import Recorder, final_bytes

EVERYTHING = [
    "ema={decay=0.9, warmup=true}",
    "precision={compute='float16', loss_scale=65536.0, growth_interval=10}",
    "training.grad_accum_steps=2",
    "optimizer.clip_norm=5.0",
    "optimizer.clip_value=1.0",
    "augment={mixup={alpha=0.2}}",
    "schedule={name='cosine_restarts', cycles=2, t_mult=1.0, end=0.1, warmup='5 steps'}",
    "training.evaluate_every=320 examples",
]


def test_step_with_every_option_resumes_to_the_same_bytes(tiny, tmp_path):
    config = load_config(tiny, EVERYTHING)
    whole = convax.train(config, tmp_path / "whole")
    assert whole.info()["result"]["test"]["accuracy"] > 0.8
    names = {name.partition("/")[2] for name in final_bytes(whole)}
    assert {"params.safetensors", "ema.safetensors"} <= names
    with pytest.raises(InterruptedRun):
        convax.train(config, tmp_path / "cut", display=Recorder(27))
    resumed = final_bytes(convax.resume(tmp_path / "cut"))
    expected = final_bytes(whole)
    tensors = [name for name in expected if name.endswith(".safetensors")]
    assert tensors
    for name in tensors:
        assert resumed[name] == expected[name], name


NORMED = """model={layers=[
    {type="conv", features=4, window=3}, {type="batch_norm"}, {type="prelu"},
    {type="group_norm", groups=2}, {type="instance_norm"}, {type="stochastic_pool", window=2},
    {type="dropout", rate=0.5}, {type="layer_norm"}, {type="flatten"}, {type="dense", features=3},
]}"""
AUGMENTED = """augment={
    flip="alternating", translate=1, crop={scale=[0.5, 1.0], ratio=[0.8, 1.2]},
    affine={degrees=5.0, translate=[0.1, 0.1], scale=[0.9, 1.1], shear=[1.0, 1.0]},
    policy={num_ops=1, magnitude="random"}, cutout={size=2}, mixup={alpha=0.2},
    color={brightness=0.1, contrast=0.1, saturation=0.0, hue=0.0},
    cutmix={alpha=1.0, probability=0.5}
}"""


@pytest.mark.slow
def test_a_step_is_float32_where_the_default_is_float64(tiny):
    """Under JAX_ENABLE_X64=1 it has the same dtypes, and draws the same numbers."""
    config = load_config(tiny, [*EVERYTHING, NORMED, AUGMENTED])

    def step_of(x64):
        with jax.enable_x64(x64):
            experiment = prepare(config)
            train = experiment.dataset.train
            step = make_train_step(make_step_spec(experiment))
            shapes = jax.eval_shape(step, experiment.template, train.images[:16], train.labels[:16])
            x = jax.numpy.zeros((16, 8, 8, 1), jax.numpy.float32).at[:, 2:5, 3:5].set(1)
            assert experiment.augment is not None
            augmented = jax.jit(experiment.augment)(
                *(jax.random.key(1), x, jax.numpy.zeros(16, jax.numpy.int32)),
                images=train.images[:16],
                step=jax.numpy.int32(3),
            )
            return jax.tree.map(lambda leaf: str(leaf.dtype), shapes), augmented

    (dtypes, augmented), (wanted, expected) = step_of(True), step_of(False)
    assert dtypes == wanted
    for got, want in zip(augmented, expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
