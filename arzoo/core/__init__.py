"""The vocabulary of generation: layout, tokens, plan, condition, control, draws, and the contracts of the networks."""
