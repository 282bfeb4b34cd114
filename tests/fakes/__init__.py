"""Stand-ins at the wire, for tests that need a server's manners and not its model."""
