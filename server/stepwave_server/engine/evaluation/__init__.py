"""Evaluation: inputs from bindings, conditions, lists, and the expressions in them."""
