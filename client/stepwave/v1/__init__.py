"""Generated from `proto/stepwave/v1`; never edited. `make proto` writes it again."""
