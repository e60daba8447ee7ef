"""A graph network that gives vectors to books it has not seen."""
