"""The operations as NumPy loops, to be read beside their formulas: slow, plain and independent."""
