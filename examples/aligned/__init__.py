"""A model that goes on working on the next training's vectors."""
