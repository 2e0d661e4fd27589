"""The changelog: its messages, their chained checksum, its replay, and the offsets to resume from."""
