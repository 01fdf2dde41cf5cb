"""Pools: one value for each window, bin or image.

    windows.py      where windows lie, and the ways to reach their elements
    pool.py         max_pool, avg_pool
    indices.py      maxima with their places, and back to those
    adaptive.py     as many bins as wanted; global pools; the spatial pyramid
    lp.py           p-norms
    stochastic.py   mixed_pool and stochastic_pool, which draw in training

A new pool is a function over `windows`; its gradient at ties, NaN and padding is stated in its
docstring and tested. The room imports `ops.common` alone.
"""
