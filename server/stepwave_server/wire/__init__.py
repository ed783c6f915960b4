"""Protobuf to core and back, in one place."""
