"""Conversions of workflows: messages to the core, with every problem reported, and back."""
