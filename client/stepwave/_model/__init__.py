"""The data that clients return: events, results, plans, explanations, reports."""
