"""HTTP/1.1 on a connection, and where a path leads."""
