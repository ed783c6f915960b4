"""Runs under way: their decisions, commits, recovery and defects."""
