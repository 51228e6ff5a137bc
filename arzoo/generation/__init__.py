"""Generation: parts put together into a generator, what fits with what, and requests for pictures."""
