"""What is trained: encoders, decoders, the hybrid model, and the bundle a trained model travels in."""
