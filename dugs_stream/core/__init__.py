"""Numerics: from a model and samples to verdicts, with torch, numpy and hnswlib alone.

No clock, no log, no configuration, and I/O in `core.index.files` alone.

One letter per axis, in every file of this folder:

    m   samples computed or asked about together (a tile, a micro-batch, the queries)
    t   positions of a layer that is applied to many vectors of one sample (tokens, patches)
    a   inputs of a layer (activations)
    g   outputs of a layer (output gradients)
    k   sketch dimensions
    n   uniques, or the samples of one call
"""
