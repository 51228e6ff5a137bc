#!/usr/bin/env bash
# x-transformers' AutoregressiveWrapper.generate keeps the likeliest tenth of the vocabulary when no filter is asked for.
# Guess: temperature 1 and no filter draw from the model's distribution.
# Matters to: codebooks of thousands of codes, where the other nine tenths often hold most of the mass: pictures look smoother and
# FID and entropy are those of a top-k run that nobody asked for. Pass filter_kwargs = {"frac_num_tokens": 1.0}.
source "$(dirname "$0")/environment.sh" x-transformers==2.31.10 torch==2.14.1 numpy==2.4.6
python - <<'PY'
import torch
from x_transformers import AutoregressiveWrapper, Decoder, TransformerWrapper

torch.manual_seed(0)
CODES = 1000
net = TransformerWrapper(num_tokens=CODES, max_seq_len=64, attn_layers=Decoder(dim=16, depth=1, heads=2))
net.to_logits.weight.data.zero_()  # all codes are equally likely
model, start = AutoregressiveWrapper(net), torch.zeros(256, 1, dtype=torch.long)
drawn = {
    "nothing asked for": model.generate(start, 48, temperature=1.0),
    "whole vocabulary": model.generate(start, 48, temperature=1.0, filter_kwargs={"frac_num_tokens": 1.0}),
}
count = {name: len(codes.unique()) for name, codes in drawn.items()}
print(f"distinct codes among {drawn['nothing asked for'].numel()} draws of {CODES} equally likely ones:", count)
assert count["nothing asked for"] == CODES // 10, "nothing is cut off unasked now"
assert count["whole vocabulary"] == CODES
PY
