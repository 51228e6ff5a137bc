"""Several steps of a plan in one network call, with the tokens or the law of the loop that draws one.

`base.py` has the contract, `chain.py` and `candidates.py` the rules that accept drafts, as pure functions; the other
files have one method each.
"""
