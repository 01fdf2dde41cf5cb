"""The networks of `model` in PyTorch's terms, without PyTorch.

    layout.py       arrays moved between channels last and channels first
    names.py        the names of arrays that files are written under, torchvision's where it has any
    other_names.py  further names that files are read under: timm's, and those of older files

A new architecture's names are a function in `names`. The room imports `model` alone.
"""
