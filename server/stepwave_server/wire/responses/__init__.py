"""Conversions of values of the core to responses of the service."""
