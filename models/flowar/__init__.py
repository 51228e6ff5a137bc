"""FlowAR: next-scale prediction over vectors with a flow-matching head."""
