"""YouTube's recall: a softmax network, its output weights and its last hidden layer."""
