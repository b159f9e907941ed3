"""What do the walks stand on? Databases, throw-away projects, real servers and a
client."""
