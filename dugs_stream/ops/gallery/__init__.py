"""The page of uniques: thumbnails, search, routes, export."""
