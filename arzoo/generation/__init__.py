"""Generation: assembling a generator from parts, checking that the parts fit, and requests for pictures."""
