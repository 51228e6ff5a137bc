"""TokenUnify: pre-training on volumes by three kinds of token prediction, and the network that is pre-trained.

"TokenUnify: Scaling Up Autoregressive Pretraining for Neuron Segmentation", 2025 (arXiv 2405.16847). The network,
SegMamba, is an encoder and decoder over whole volumes of electron microscopy, not a model of tokens: what is called a
token is a patch of voxels, which `pretraining` hides from it. Fine-tuned, it tells neurons apart.
"""
