"""Web page of the command `demo`."""
