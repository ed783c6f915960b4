"""Drives the core: feeds it what happened, commits what it decides, and carries out what it commands."""
