"""kill -9 of clients and servers at any moment of promote, release, append and gc."""

DIM, ROWS = 8, 200
TABLES = ("items", "users")
