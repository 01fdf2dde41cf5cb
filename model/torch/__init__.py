"""The networks of `model` in PyTorch's terms, without PyTorch.

    layout.py   arrays moved between channels last and channels first
    names.py    the names of arrays in torchvision, timm and others

A new architecture's names are a function in `names`. The room imports `model` alone.
"""
