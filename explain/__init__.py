"""What a trained network has learned, and why it answers as it does: functions, and pictures.

    from convax import explain

    explain.saliency(net, params, state, x, target)         # (N, *spatial): how much each pixel matters
    explain.grad_cam(net, params, state, x, target)         # (N, *spatial): where the class was seen
    explain.heatmap(predictor, image, k)                    # (H, W) in [0, 1], of one image

`x` is what the network sees: preprocessed images ``(N, *spatial, C)``. `target` is a class, one for
each image, or any function of the outputs: `explain.target`. All of them are pure functions of
arrays, for `jax.jit`, with `net` and a layer's path bound by `functools.partial`.
"""

from .grad_cam import grad_cam, last_map
from .heatmap import heatmap
from .saliency import input_gradient, saliency
from .target import Target, scores

__all__ = [
    "Target",
    "grad_cam",
    "heatmap",
    "input_gradient",
    "last_map",
    "saliency",
    "scores",
]
