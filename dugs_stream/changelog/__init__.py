"""The changelog: its messages, their chained checksum, its replay, and where to resume."""
