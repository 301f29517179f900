"""Speech as it comes: sessions that are fed samples and give events."""
