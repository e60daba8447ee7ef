"""New books without a training, measured."""
