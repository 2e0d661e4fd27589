"""Johnson-Lindenstrauss projections: balanced CountSketch and TensorSketch, their hashes and scales."""
