"""NBP: next-block prediction, a block of tokens per step.

"Next Block Prediction: Video Generation via Semi-Autoregressive Modeling", 2025. The order is the plan `next_block`.
Published weights have a network of their own, for reasons that `network` states; new models use that of
`arzoo.models.llamagen` with learned transition inputs.
"""
