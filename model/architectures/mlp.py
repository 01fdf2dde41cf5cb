"""The multi-layer perceptron."""

from ..combinators import serial
from ..layer import Layer
from ..layers.activation import ActivationName
from ..layers.activation import activation as activation_layer
from ..layers.arguments import check_positive
from ..layers.dense import dense, flatten


def mlp(classes: int, *, hidden: list[int], activation: ActivationName) -> Layer:
    """Make a multi-layer perceptron of any depth on the flattened image.

    .. math:: h_0 = x, \\quad h_l = \\sigma(h_{l-1} W_l + b_l), \\quad y = h_L W_{L+1} + b_{L+1}

    Args:
        classes: K, the number of outputs (logits).
        hidden: the width of each hidden layer; an empty list gives softmax regression.
        activation: sigma, after each hidden layer.
    """
    if hidden:
        check_positive("mlp", hidden=hidden)
    layers = [flatten()]
    for width in hidden:
        layers += [dense(width), activation_layer(activation)]
    return serial(*layers, dense(classes))
