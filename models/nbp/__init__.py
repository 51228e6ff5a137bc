"""NBP: next-block prediction, a block of tokens per step.

"Next Block Prediction: Video Generation via Semi-Autoregressive Modeling", 2025. The order is the plan `next_block`;
models of our own are the network of `arzoo.models.llamagen` with learned transition inputs.
"""
