"""Detectors: what a network of the R-CNN family is made of.

structures.py   what a detector is given and what it gives
"""
