"""Files of many samples, one a row: JSON Lines, Parquet, webdataset tar shards; one format a file, `fields` for all."""
