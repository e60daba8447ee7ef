"""The embedding layer of Deep Crossing and Wide & Deep, and how it outlives a training."""
