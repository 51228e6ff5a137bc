"""NAR: next-neighbor prediction, the network of LlamaGen with one readout per axis.

"Neighboring Autoregressive Modeling for Efficient Visual Generation", 2025. The network is that of
`arzoo.models.llamagen`, the order the plan `next_neighbor`. Pictures have two axes and rotary positions, clips three
axes and learned positions; t x h x w tokens take t + h + w - 2 steps. The published code mixes the logits of clips in
the precision of the weights, here logits are float32 for clips too.
"""
