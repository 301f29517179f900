"""Layers: attention, Conformer, feed-forward, positions, subsampling."""
