"""convax: convolutional neural networks on JAX, as data and pure functions.

    import convax
    from convax import ops, model

    config = convax.config("lenet5-digits")
    run = convax.train(config, "runs/digits")
    predict = convax.load("runs/digits")

Nothing is imported before it is used: ``import convax`` costs no more than it must.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convax import explain, inference, model, ops, training
    from convax.inference.predictor import Predictor, load
    from convax.training.config.from_python import config
    from convax.training.config.schema import load_config
    from convax.training.evaluation import evaluate
    from convax.training.loop.loop import resume, train
    from convax.training.plugins.register import register
    from convax.training.weights.torch_state_dict import load_torch, save_torch
    from convax.training.weights.weights import load_weights, save_weights

__version__ = "0.1.0"
__all__ = [
    "Predictor",
    "config",
    "evaluate",
    "explain",
    "inference",
    "load",
    "load_config",
    "load_torch",
    "load_weights",
    "model",
    "ops",
    "register",
    "resume",
    "save_torch",
    "save_weights",
    "train",
    "training",
]

_HOME = {
    "Predictor": "inference.predictor",
    "config": "training.config.from_python",
    "evaluate": "training.evaluation",
    "load": "inference.predictor",
    "load_config": "training.config.schema",
    "load_torch": "training.weights.torch_state_dict",
    "load_weights": "training.weights.weights",
    "register": "training.plugins.register",
    "resume": "training.loop.loop",
    "save_torch": "training.weights.torch_state_dict",
    "save_weights": "training.weights.weights",
    "train": "training.loop.loop",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"convax.{_HOME[name]}"), name)
    if name in ("explain", "inference", "model", "ops", "training"):
        return import_module(f"convax.{name}")
    raise AttributeError(f"module 'convax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
