"""Evaluation protocols: how logits are turned into metrics, one module per kind of benchmark.

A protocol belongs to the evaluation, not to the model. It is not stored in checkpoints, and every
checkpoint can be validated with every protocol.
"""
