"""The process of a command: its streams, signals, children and exit."""
