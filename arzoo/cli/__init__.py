"""The command `arzoo`: one module a verb, each a dataclass whose fields are the options."""
