"""Secrets: which actions may use them, and where their values come from."""
