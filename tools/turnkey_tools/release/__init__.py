"""`turnkeyctl release`: signing and publishing what devices take as updates."""
