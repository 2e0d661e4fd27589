"""Text as token ids: a text, or a chat through its template, tokenised and padded to one of a few lengths."""
