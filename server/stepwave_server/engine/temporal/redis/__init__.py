"""Chunks and logs over Redis: a bounded stream of each for every run, with a time to live."""
