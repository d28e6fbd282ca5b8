"""The witness: somebody else's memory of how long a device's ledger was, and what it hashed to."""
