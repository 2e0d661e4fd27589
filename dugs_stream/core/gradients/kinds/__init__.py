"""Kinds of layers with a fast path, one module each; `registry` lists them."""
