"""Queries: the state and result of a run, explanations, and lists of runs."""
