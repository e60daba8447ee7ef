"""Random walks over books that share readers: DeepWalk and node2vec."""
