"""Metrics in the form of `evaluate` modules: each folder can be uploaded to the Hub as it is."""
