"""PyTorch's weights as ours, and ours as PyTorch's: names by table, layouts by kind of layer."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...model import Layer, init_shapes
from ...model.torch.layout import Layout, Shape, layouts, to_ours, to_torch
from ...model.torch.names import Rules, array_name, rule_of, sequential
from ...model.torch.other_names import nested_blocks, renamed
from .safetensors_io import WeightsError, to_numpy, write_safetensors
from .torch_file import AVERAGED, MODULE, read_state_dict, without
from .weights import by_name, restore

COUNTER = "num_batches_tracked"  # of PyTorch's batch norms; an int64 that nothing here depends on


def load_torch(
    path: str | Path, net: Layer, in_shape: Shape, *, names: Rules | None = None
) -> tuple[Any, Any]:
    """Load parameters and state of a network from a file of PyTorch's.

    Args:
        path: a state dict as .safetensors, read without PyTorch, or as .pt or .pth.
        net: our network of the same structure.
        in_shape: ``(1, *spatial, C)`` of its images: the weights behind a `flatten` depend on it.
        names: what PyTorch calls its layers, see `model.torch.names`; places in a
            `torch.nn.Sequential` if left out.

    Returns:
        ``(params, state)``.

    Raises:
        WeightsError: the file cannot be read, nobody said what a layer is called, or tensors are
            missing, left over or of another shape; the message has a line for each.

    Note:
        A `flatten` and a `conv_transpose` are known by their place among the parts of `serial` and
        the other combinators. Within a layer of your own, which has no parts, nobody sees them:
        its kernels are taken for those of `conv` or `dense`, by rank, unless `Rule.kind` says else.
    """
    _, *like = init_shapes(net, in_shape)
    bridge = torch_mapping(net, in_shape, names)
    ours = bridge.to_ours(read_state_dict(path))
    params, state = like
    return restore((params, state), ours, str(path), bridge.called)


def save_torch(
    path: str | Path,
    net: Layer,
    in_shape: Shape,
    params: Any,
    state: Any,
    *,
    names: Rules | None = None,
) -> None:
    """Write parameters and state as a state dict of PyTorch's, as safetensors.

    There read it with ``model.load_state_dict(safetensors.torch.load_file(path))``. The counters of
    batches that PyTorch's batch norms keep are 0. Arguments and errors are those of `load_torch`.
    """
    bridge = torch_mapping(net, in_shape, names)
    write_safetensors(Path(path), bridge.to_torch(by_name(params, state)))


class TorchMapping(NamedTuple):
    """Between the arrays of a network of ours and a state dict."""

    called: dict[str, str]  # our path: PyTorch's name
    shapes: dict[str, Shape]  # our path: our shape
    layouts: dict[str, Layout]  # by the path of the layer

    def to_ours(self, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Convert to our paths and layouts; what is none of ours keeps its name.

        Of a part that was wrapped by itself, ``features.module.0.weight``, the names are those of
        what is wrapped where the network has those, and the file does not. Names that torchvision
        has changed, and those of MobileNetV2 before it was torchvision's, are the new ones.
        """
        of = {name: path for path, name in self.called.items()}
        nested = nested_blocks(tensors)
        plain = {
            name: name if name in of else renamed(without(name, (MODULE,)))
            for name in (nested.get(name, name) for name in tensors)
        }
        once = Counter(plain.values())
        found = {}
        for name, tensor in tensors.items():
            name = nested.get(name, name)
            if once[plain[name]] == 1 and plain[name] in of:
                name = plain[name]
            if name in of:
                layer, leaf = _split(of[name])
                layout = self.layouts.get(layer, Layout())
                found[of[name]] = to_ours(tensor, leaf, self.shapes[of[name]], layout)
            elif name.rpartition(".")[2] not in (COUNTER, AVERAGED):
                found[name] = tensor
        return found

    def to_torch(self, arrays: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Convert to PyTorch's names and layouts."""
        found = {}
        for path, name in self.called.items():
            layer, leaf = _split(path)
            layout = self.layouts.get(layer, Layout())
            found[name] = to_torch(to_numpy(arrays[path]), leaf, layout)
            if name.endswith(".running_mean"):
                found[f"{name.rpartition('.')[0]}.{COUNTER}"] = np.zeros((), np.int64)
        return found


def torch_mapping(net: Layer, in_shape: Shape, names: Rules | None = None) -> TorchMapping:
    """Map every array of `net` to PyTorch's name and memory layout.

    Raises:
        WeightsError: nobody said what a layer is called.
    """
    rules = sequential(net) if names is None else names
    if rules is None:
        raise WeightsError(
            "weights: no PyTorch names are known for the layers of this network; pass names in "
            "Python, see model.torch.names; docs/networks.md says which networks have some"
        )
    _, params, state = init_shapes(net, in_shape)
    arrays = by_name(params, state)
    called, unknown = {}, []
    for path in arrays:
        name = array_name(path, rules)
        if name is None:
            unknown.append(path)
        else:
            called[path] = name
    if unknown:
        raise WeightsError(f"weights: no PyTorch names are known for {', '.join(unknown)}")
    if len(set(called.values())) < len(called):
        names_given = list(called.values())
        twice = sorted({name for name in names_given if names_given.count(name) > 1})
        raise WeightsError(f"weights: several arrays would be called {', '.join(twice)}")
    shapes = {path: leaf.shape for path, leaf in arrays.items()}
    said = {_split(path)[0]: rule_of(path, rules) for path in arrays}
    kinds = {layer: Layout(rule.kind) for layer, rule in said.items() if rule and rule.kind}
    return TorchMapping(called, shapes, layouts(net, in_shape) | kinds)


def _split(path: str) -> tuple[str, str]:
    layer, _, leaf = path.rpartition("/")
    return layer, leaf
