"""The process of a command: its standard streams, signals, child processes and exit."""
