#!/usr/bin/env bash
# transformers' JanusVQVAE makes codes unit vectors when it decodes but compares latents with codes as they are stored when it
# encodes, and does not normalise the latents. The published code of Janus (janus/models/vq_model.py) normalises on both sides.
# Guess: the vector that a code is decoded from is encoded as that code.
# Matters to: tokens made by `JanusVQVAE.encode`: unless all stored codes have length 1, many are not what the model was trained
# on. Random codebook of unequal lengths; with lengths of 1 both sides agree.
source "$(dirname "$0")/environment.sh" transformers==5.24.0 torch==2.14.1 torchvision==0.29.1 numpy==2.4.6
python - <<'PY'
import torch
from torch.nn.functional import normalize
from transformers import JanusVQVAEConfig
from transformers.models.janus.modeling_janus import JanusVQVAEVectorQuantizer

torch.manual_seed(0)
net = JanusVQVAEVectorQuantizer(JanusVQVAEConfig(num_embeddings=16384, embed_dim=8, num_patches=24))
codes = torch.randint(16384, (2, 24 * 24))
kept = {}
with torch.no_grad():
    for stored in ("any length", "length 1"):
        net.embedding.weight.normal_()
        if stored == "length 1":
            net.embedding.weight.copy_(normalize(net.embedding.weight, dim=-1))
        again = net(net.get_codebook_entry(codes))[2].view_as(codes)
        kept[stored] = float((again == codes).double().mean())
        print(f"codes stored with {stored}: {kept[stored]:.1%} are encoded as themselves")
assert kept["length 1"] > 0.999
assert kept["any length"] < 0.5, "both sides normalise now"
PY
