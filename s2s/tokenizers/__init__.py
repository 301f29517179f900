"""Text to ids and back."""

from s2s.tokenizers.base import Tokenizer, normalise
from s2s.tokenizers.joint import JointTokenizer
from s2s.tokenizers.load import load_tokenizer, train_tokenizer

__all__ = ["JointTokenizer", "Tokenizer", "load_tokenizer", "normalise", "train_tokenizer"]
