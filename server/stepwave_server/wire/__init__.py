"""Conversions between protobuf messages and the values of the core. No other package converts."""
