"""Attempts: from the request for a place to the outcome."""
