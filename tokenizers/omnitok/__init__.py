"""OmniTokenizer: one network and one set of weights for pictures and clips, with codes or vectors.

"OmniTokenizer: A Joint Image-Video Tokenizer for Visual Generation", 2024. Patches of the first frame and of the frames
after it have embeddings of their own; a transformer over the places of a frame and one over time encode, the same in
reverse order decode. Where the published code does something else than the paper says, and its weights depend on it,
this is a setting.
"""
