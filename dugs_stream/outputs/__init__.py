"""Output topics: events, the messages that carry them, and the size of a message."""
