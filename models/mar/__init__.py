"""MAR: masked autoregression over vectors with a diffusion head."""
