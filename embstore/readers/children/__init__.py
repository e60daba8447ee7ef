"""What runs in a process of its own: parsers in C that trust their files, HDF5's and Faiss's.

The scripts here import nothing of embstore, which makes them start in 0.2 s.
"""
