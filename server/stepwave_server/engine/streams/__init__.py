"""Streams of events: who watches a run, and what is sent to them."""
