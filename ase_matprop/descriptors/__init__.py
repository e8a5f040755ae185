"""Descriptors: structures in, arrays out.  Nothing in this layer knows a network."""
