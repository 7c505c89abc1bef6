"""HTTP/1.1 at the socket (RFC 9110, RFC 9112): bounded before anything is stored, and strict."""
