"""Several processes behind one port: what they say to each other, who gets a connection, what they count together."""
