"""Encoding and decoding of events."""
