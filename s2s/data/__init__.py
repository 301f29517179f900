"""Corpora and batches: what is read, checked, put in buckets and given to a model."""
