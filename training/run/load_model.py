"""The network of a run with what it has learned; and that as a file of weights."""

from pathlib import Path
from typing import Any, NamedTuple

from ...model import Layer, build, init_shapes
from ...model.torch.names import names_of
from ..config.given import Objects, attach, object_or
from ..config.schema import Config
from ..weights.torch_state_dict import save_torch
from ..weights.weights import save_weights
from .checkpoint import restore_network
from .directory import DatasetCard, open_run
from .given_programs import check_programs, remember_net


class LoadedModel(NamedTuple):
    """A run's network."""

    config: Config
    card: DatasetCard
    net: Layer
    in_shape: tuple[int, ...]  # (1, H, W, C), as the network sees it
    params: Any
    state: Any


def build_network(config: Config, card: DatasetCard) -> Layer:
    """Return the network of a config, for the classes of its data."""
    return object_or(
        config.model, lambda: build(config.model.model_dump(exclude_none=True), len(card.classes))
    )


def load_model(
    run: str | Path, checkpoint: str = "best", *, use_ema: bool = True, net: Layer | None = None
) -> LoadedModel:
    """Load the network of a run with its parameters.

    Args:
        run: the run directory.
        checkpoint: "best" (by the validation metric) or "last".
        use_ema: the averages of the weights, where the run has them (`[ema]`).
        net: the network, where it was given in Python.

    Raises:
        RunError, CheckpointError: it is no run directory, or has no usable checkpoint; or the
            network is another.
        ConfigError: `net` is missing, or not needed.
    """
    opened = open_run(run)
    config, card = opened.config(), opened.dataset()
    attach(config, Objects(net=net), needed=("net",), call="convax.load(RUN")
    net = build_network(config, card)
    in_shape = (1, *card.preprocessing.size, card.image_shape[-1])
    remember_net(config, in_shape[1:])
    check_programs(opened, config)
    _, params, state = init_shapes(net, in_shape)
    params, state, _ = restore_network(
        opened.checkpoints, checkpoint, params, state, use_ema=use_ema
    )
    return LoadedModel(config, card, net, in_shape, params, state)


def save_run_weights(
    run: str | Path,
    path: str | Path,
    *,
    checkpoint: str = "best",
    torch: bool = False,
    use_ema: bool = True,
) -> None:
    """Write the weights of a run to one safetensors file.

    Args:
        run: the run directory.
        path: the file to make.
        checkpoint: "best" or "last".
        torch: as a state dict of PyTorch's, see `torch_state_dict.save_torch`.
        use_ema: as `load_model`.

    Raises:
        RunError, CheckpointError: as `load_model`.
        WeightsError: the file cannot be written, or nobody said what PyTorch calls the layers.
    """
    trained = load_model(run, checkpoint, use_ema=use_ema)
    if not torch:
        return save_weights(path, trained.params, trained.state)
    names = names_of(trained.config.model.model_dump(exclude_none=True), trained.net)
    arrays = (trained.net, trained.in_shape, trained.params, trained.state)
    return save_torch(path, *arrays, names=names)
