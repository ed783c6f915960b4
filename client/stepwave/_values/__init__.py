"""Values: JSON, payloads, durations, times, ids."""
