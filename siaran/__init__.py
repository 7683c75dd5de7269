"""The kernel of Siaran: settings, tables, contracts and the ledger; it imports nothing above it."""
