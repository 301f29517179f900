"""What searches: scorers, beam search, CTC."""
