"""AlexNet: Krizhevsky et al., ImageNet Classification with Deep CNNs, 2012; and arXiv:1404.5997."""

from functools import partial

from ... import ops
from ..combinators import serial
from ..layer import Layer
from ..layers.activation import relu
from ..layers.conv import conv
from ..layers.dense import dense, flatten
from ..layers.norm import local_response_norm
from ..layers.pool import adaptive_avg_pool, max_pool
from ..layers.regularization import dropout


def alexnet_2012(classes: int) -> Layer:
    """Make AlexNet as published: two towers that meet in the third layer and in the dense ones.

    60,965,224 parameters for 1000 classes and 227x227x3 images.

    Args:
        classes: K, the number of outputs (logits).

    Note:
        The towers were two GPUs; here they are the two groups of conv2, conv4 and conv5, channel
        for channel the same connections. Local response normalization sees the channels of both, as
        the paper's formula reads; a GPU that normalized its own would differ in the two channels on
        either side of the border. The paper writes 224x224, of which its own sizes (55x55 behind
        conv1) do not follow; 227x227 is what they need.

        As in the paper: local response normalization with k=2, n=5, alpha=1e-4 and beta=0.75;
        pools that overlap; dropout of 0.5; kernels from N(0, 0.01), biases one in conv2, conv4,
        conv5 and the hidden dense layers, zero elsewhere.
    """
    draw = partial(ops.normal, std=0.01)
    part, whole = partial(conv, kernel_init=draw), partial(dense, kernel_init=draw)
    pool = max_pool(3, stride=2)
    return serial(
        conv1=part(96, 11, stride=4),  #                                227x227x3 -> 55x55x96
        act1=relu(),
        norm1=local_response_norm(),
        pool1=pool,  #                                                  27x27x96
        conv2=part(256, 5, padding=2, groups=2, bias_init=1.0),  #      27x27x256
        act2=relu(),
        norm2=local_response_norm(),
        pool2=pool,  #                                                  13x13x256
        conv3=part(384, 3, padding=1),  #                               13x13x384
        act3=relu(),
        conv4=part(384, 3, padding=1, groups=2, bias_init=1.0),  #      13x13x384
        act4=relu(),
        conv5=part(256, 3, padding=1, groups=2, bias_init=1.0),  #      13x13x256
        act5=relu(),
        pool5=pool,  #                                                  6x6x256
        flatten=flatten(),
        fc6=whole(4096, bias_init=1.0),
        act6=relu(),
        dropout6=dropout(0.5),  # of "the output of each hidden neuron", section 4.2
        fc7=whole(4096, bias_init=1.0),
        act7=relu(),
        dropout7=dropout(0.5),
        fc8=whole(classes),
    )


def alexnet(classes: int) -> Layer:
    """Make AlexNet with one tower and without normalization, for images of about 224x224.

    61,100,840 parameters for 1000 classes.

    Args:
        classes: K, the number of outputs (logits).

    Note:
        As torchvision's, after Krizhevsky, One weird trick, arXiv:1404.5997; its 6x6 mean before
        the dense layers lets images of other sizes in. The rows of ``fc6/kernel`` are in the order
        (i, j, c), PyTorch's columns in (c, i, j). Kernels start by He's rule.
    """
    pool = max_pool(3, stride=2)
    return serial(
        conv1=conv(64, 11, stride=4, padding=2),  #  224x224x3 -> 55x55x64
        act1=relu(),
        pool1=pool,  #                               27x27x64
        conv2=conv(192, 5, padding=2),  #            27x27x192
        act2=relu(),
        pool2=pool,  #                               13x13x192
        conv3=conv(384, 3, padding=1),  #            13x13x384
        act3=relu(),
        conv4=conv(256, 3, padding=1),  #            13x13x256
        act4=relu(),
        conv5=conv(256, 3, padding=1),  #            13x13x256
        act5=relu(),
        pool5=pool,  #                               6x6x256
        avgpool=adaptive_avg_pool(6),
        flatten=flatten(),
        dropout6=dropout(0.5),
        fc6=dense(4096),
        act6=relu(),
        dropout7=dropout(0.5),
        fc7=dense(4096),
        act7=relu(),
        fc8=dense(classes),
    )
