"""Explain what a trained network has learned, and why it predicts what it does.

    from convax import explain

    explain.saliency(net, params, state, x, target)  # (N, H, W): how much each pixel matters
    explain.grad_cam(net, params, state, x, target)  # (N, H, W): where the class was seen
    explain.heatmap(predictor, image, k)             # (H, W) in [0, 1], of one image

`x` is what the network sees: preprocessed images ``(N, *spatial, C)``. `target` is a class, one for
each image, or any function of the outputs: `explain.target`. All of them are pure functions of
arrays, for `jax.jit`, with `net` and a layer's path bound by `functools.partial`.

target                 the number that is explained: a class, pixels, a distance, a detection, any
                       function
saliency               gradients by the image
grad_cam               where a layer's maps speak for a class
integrated_gradients   attributions that add up to the score
occlusion              what of the score a patch covers
rise                   what of the image random masks keep where a score is high; D-RISE
feature_maps           the output of a layer
receptive_field        what an element of a map depends on
nearest_neighbors      the images that lie nearest in an embedding
layer_selection        which layers have maps worth looking at
classic_kernels        blur, Sobel and others, by hand
heatmap                Grad-CAM of one image, compiled once a predictor
explanation            everything that is shown of one image
objects                everything that is shown of objects that a detector found in one
panels                 an explanation as figures
object_panels          objects, and why they were found, as figures
overlays               how a map is drawn over an image
write_figures          what `convax explain` writes

A new method is one file with a pure function, exported here; `explanation` and `panels` show it,
`objects` and `object_panels` of detectors.
Imports `model`, and of `training` data, plots, tasks, run and report; never the loop or the step.
"""

from ..model import kernels
from .classic_kernels import CLASSIC, apply_kernel
from .explanation import ExplainError, Explanation, explain_image, make_target
from .feature_maps import feature_maps
from .grad_cam import grad_cam
from .heatmap import heatmap
from .integrated_gradients import integrated_gradients
from .layer_selection import coarsest_map_layer, last_map_layer, select_layers
from .nearest_neighbors import Neighbors, nearest_neighbors
from .objects import ObjectExplanation, ObjectExplanations, explain_objects
from .occlusion import occlusion
from .receptive_field import effective_receptive_field, extent, receptive_field_size
from .rise import rise
from .saliency import input_gradient, saliency
from .target import Target, detection, neg_distance, pixels, scores, similarity

__all__ = [
    "CLASSIC",
    "ExplainError",
    "Explanation",
    "Neighbors",
    "ObjectExplanation",
    "ObjectExplanations",
    "Target",
    "apply_kernel",
    "coarsest_map_layer",
    "detection",
    "effective_receptive_field",
    "explain_image",
    "explain_objects",
    "extent",
    "feature_maps",
    "grad_cam",
    "heatmap",
    "input_gradient",
    "integrated_gradients",
    "kernels",
    "last_map_layer",
    "make_target",
    "nearest_neighbors",
    "neg_distance",
    "occlusion",
    "pixels",
    "receptive_field_size",
    "rise",
    "saliency",
    "scores",
    "select_layers",
    "similarity",
]
