"""How logits are read out and what is measured, one module a kind of benchmark.

A protocol belongs to the evaluation, not to what was trained: it is no hyper-parameter of a
checkpoint, and any checkpoint can be validated under any protocol.
"""
