"""Long-running processes: workflow worker, fleet and device hosts."""
