"""What the daemon publishes: events, and the messages that carry them."""
