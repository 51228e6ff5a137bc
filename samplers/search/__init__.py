"""Search at sampling time: several candidates are drawn, scored by a verifier, and the best ones kept, within a budget.

Written on `propose`, `draw` and `select` of `arzoo.samplers.loop`, so they work with every backbone, head and plan.
"(1D) Ordered Tokens Enable Efficient Test-Time Search", 2026, sections 2.1 and 3 of its description of the code.
"""
