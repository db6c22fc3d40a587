"""Events, connection filters, and the machine that runs compiled filters."""
