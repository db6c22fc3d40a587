"""An end of ours: TCP of our own, facing one side of a flow."""
