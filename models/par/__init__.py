"""PAR: parallelized autoregression, the network of LlamaGen with learned transition inputs.

"Parallelized Autoregressive Visual Generation", 2024. The network is that of `arzoo.models.llamagen`, the order the
plan `parallel`.
"""
