"""Values as callers give them: JSON, payloads, lengths of time, ids."""
