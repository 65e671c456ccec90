"""The ledger: which model is champion, and all events that led to it."""
