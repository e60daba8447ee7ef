"""Files: one module per format, each with its ``FORMATS``."""
