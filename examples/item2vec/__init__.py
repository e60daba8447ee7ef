"""Books as words: gensim's skip-gram, similar books and analogies."""
