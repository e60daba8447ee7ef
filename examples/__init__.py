"""Every way the field uses embeddings, running: ``python -m examples.NAME [FOLDER]``."""
