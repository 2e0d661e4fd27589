"""From a record's bytes to a tensor and a label: one codec a file, `decoder` in front of them."""
