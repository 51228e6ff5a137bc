"""LlamaGen: the decoder-only transformer over codes, also the network of NAR and PAR."""
