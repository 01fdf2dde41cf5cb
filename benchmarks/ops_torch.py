"""Single operations in PyTorch, channels last."""

from functools import partial

import torch
from op_cases import CONVOLUTIONS, OTHERS, Conv, Other
from programs import Program
from torch.nn import functional

GRADIENTS = {"input grad": (True, False, False), "kernel grad": (False, True, False)}


def convolution(case: str, which: str) -> Program:
    conv: Conv = CONVOLUTIONS[case]
    KH, KW, Cg, Co = conv.kernel
    x, k = images(conv.x), images((Co, KH, KW, Cg))  # both channels last in memory
    stride, padding, dilation = ([n, n] for n in (conv.stride, conv.pad, conv.dilation))
    y = functional.conv2d(x, k, None, stride, padding, dilation, conv.groups)
    if which == "forward":
        return repeated(
            lambda: functional.conv2d(x, k, None, stride, padding, dilation, conv.groups)
        )
    g, window = torch.randn_like(y), (stride, padding, dilation)
    backward = partial(torch.ops.aten.convolution_backward, g, x, k, None, *window)
    return repeated(lambda: backward(False, [0, 0], conv.groups, GRADIENTS[which]))


def other(case: str, which: str) -> Program:
    of: Other = OTHERS[case]
    x, C = images(of.x), of.x[-1]
    inputs = (x, torch.randn(C), torch.randn(C)) if of.op in SCALED else (x,)
    operation = partial(OPERATIONS[of.op], **of.options)
    if which == "forward":

        @torch.no_grad()
        def forward():
            return operation(*inputs)

        return repeated(forward)
    inputs = tuple(tensor.requires_grad_() for tensor in inputs)
    g = torch.randn_like(operation(*inputs))
    return repeated(lambda: torch.autograd.grad(operation(*inputs), inputs, g))


def repeated(operation) -> Program:
    def run(count):
        for _ in range(count):
            operation()
        return 0.0

    return Program({"": run}, {})


def images(shape) -> torch.Tensor:
    """(N, H, W, C) as PyTorch's NCHW, channels last in memory."""
    return torch.randn(shape).permute(0, 3, 1, 2)


def batch_norm(x, scale, bias):
    return functional.batch_norm(x, None, None, scale, bias, training=True)


def group_norm(x, scale, bias, groups):
    return functional.group_norm(x, groups, scale, bias)


def layer_norm(x, scale, bias):
    channels_last = x.permute(0, 2, 3, 1)
    return functional.layer_norm(channels_last, scale.shape, scale, bias).permute(0, 3, 1, 2)


def instance_norm(x, scale, bias):
    return functional.instance_norm(x, weight=scale, bias=bias)


SCALED = ("batch_norm", "group_norm", "layer_norm", "instance_norm")
OPERATIONS = {
    "max_pool": lambda x, window, stride, padding: functional.max_pool2d(
        x, window, stride, padding
    ),
    "avg_pool": lambda x, window, stride, padding: functional.avg_pool2d(
        x, window, stride, padding
    ),
    "global_avg_pool": lambda x: x.mean((2, 3)),
    "batch_norm": batch_norm,
    "group_norm": group_norm,
    "layer_norm": layer_norm,
    "instance_norm": instance_norm,
    "local_response_norm": lambda x: functional.local_response_norm(x, 5, k=2.0),
    "upsample": lambda x: functional.interpolate(
        x, scale_factor=2, mode="bilinear", align_corners=False
    ),
}

PROGRAMS = {"convolution": convolution, "other": other}
LIBRARIES = ("torch",)
