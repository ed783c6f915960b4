"""Streams of events: the watchers of a run, and what is sent to them."""
