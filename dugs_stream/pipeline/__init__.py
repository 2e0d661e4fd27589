"""From polled records to messages ready to commit."""
