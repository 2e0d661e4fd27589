"""The numerics: from a model and samples to verdicts, with torch and numpy alone.

No clock, no log, no configuration, and no I/O except `UniqueIndex.save` and `load`.

One letter per axis, in every file of this folder:

    m   samples computed or asked about together (a tile, a micro-batch, the queries)
    t   positions of a layer that is applied to many vectors of one sample (tokens, patches)
    a   inputs of a layer (activations)
    g   outputs of a layer (output gradients)
    k   sketch dimensions
    n   uniques, or the samples of one call
"""
