"""What is live: the view, the aliases, and the removal of versions."""
