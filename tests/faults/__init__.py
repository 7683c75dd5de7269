"""Faults: a whole running stack, of which processes are killed and devices lost while campaigns run."""
