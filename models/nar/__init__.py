"""NAR: next-neighbor prediction, the network of LlamaGen with one readout per axis.

"Neighboring Autoregressive Modeling for Efficient Visual Generation", 2025. The network is that of
`arzoo.models.llamagen`, the order the plan `next_neighbor`.
"""
