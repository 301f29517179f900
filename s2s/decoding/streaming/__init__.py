"""Searches that hear an utterance piece by piece, and policies of when to commit to what they found."""
