"""The engine drives the core: it feeds inputs, commits decisions and executes commands."""
