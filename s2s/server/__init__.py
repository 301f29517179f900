"""Speech to text over HTTP and WebSockets, and a page that shows it."""
