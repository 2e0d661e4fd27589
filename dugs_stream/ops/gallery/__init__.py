"""The page of uniques: what it keeps, searches and serves."""
