"""The ledger: how a message is claimed, recorded, settled, moved, retried and cancelled; never twice, never lost."""
