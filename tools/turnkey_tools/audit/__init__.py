"""The audit: what an outsider can prove from a ledger's export, public keys and a witness, offline."""
