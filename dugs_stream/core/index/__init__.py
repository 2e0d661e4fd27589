"""Exact nearest neighbour by cosine among the uniques."""
