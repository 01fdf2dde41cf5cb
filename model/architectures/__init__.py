"""Networks of the literature, one file for each family:
alexnet, convnext, dilated, efficientnet, faster_rcnn, fcn, lenet, lenet_1998, mlp, mobilenet, rcnn,
rcnn_backbones, resnet, siamese, spp_net, unet, vgg.

Each is a function of the number of classes and of keywords, which are keys of a config's
``[model]`` table, and returns a `Layer`. Its docstring names the paper and where it differs. The
names of its parts are the paths of checkpoints and the seeds of its parameters. The room imports
`convax.ops`, `model.layers` and the files of `model` below those.
"""
