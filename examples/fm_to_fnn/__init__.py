"""FNN: a network whose embedding layer begins with the vectors of a factorization machine."""
