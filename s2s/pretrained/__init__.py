"""Other people's weights into our models."""
