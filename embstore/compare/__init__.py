"""How two versions differ, and the rotation that maps one onto the other."""
