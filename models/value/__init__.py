"""Value models: small networks on the features of a generator that foresee how a run will end."""
