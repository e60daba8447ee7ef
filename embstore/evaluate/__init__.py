"""How much of the exact answer an index finds, measured; and the index that finds enough.

``queries`` takes the query vectors, ``truth`` answers them exactly in one pass over the version,
``recall`` compares what searches of the version find, ``target`` chooses by that.
"""
