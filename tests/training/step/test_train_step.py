"""All recipes of training in one run: they go together, and a run that was stopped goes on alike."""

import pytest

import convax
from convax.training.config.schema import load_config
from convax.training.loop.signals import InterruptedRun
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
