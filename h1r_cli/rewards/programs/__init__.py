"""Programs that a model wrote: finding them, building them, and judging them by tests."""
