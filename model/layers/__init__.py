"""Layers: each is an op of `convax.ops` with its parameters and state.

    arguments.py       types of arguments in a config, and checks
    initialization.py  first kernels and biases
    conv.py            conv, conv_transpose, depthwise_conv
    dense.py           dense, flatten
    activation.py      relu, gelu, prelu, maxout ...
    norm.py            batch, layer, group, instance and local response normalization
    pool.py            pools
    resize.py          upsample, pad, pixels from channels
    unfold.py          windows as columns, and back
    regularization.py  dropout, stochastic_depth, layer_scale
    crop_or_pad.py     an output as large as the input

A layer checks its arguments when it is made, not when it is applied. Its keywords are keys of a
config. The room imports `convax.ops`, `model.layer` and `model.combinators`.
"""
