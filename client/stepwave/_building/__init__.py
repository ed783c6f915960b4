"""The workflow builder, and requests of the contract."""
