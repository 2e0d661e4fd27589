"""Codecs of the user in processes of their own."""
