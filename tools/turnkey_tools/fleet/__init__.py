"""The fleet as IT sees it, from attestations alone: judge.py believes, store.py remembers, health.py decides."""
