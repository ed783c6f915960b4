"""Responses of the service, made from the data of the core."""
