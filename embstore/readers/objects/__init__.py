"""Objects in memory: arrays, frames and streams, and one module per library of trained models."""
