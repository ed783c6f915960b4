"""Workflows: messages to the core and back, with every problem named."""
