"""Queries: what a run came to, what it waits for, which runs there are."""
