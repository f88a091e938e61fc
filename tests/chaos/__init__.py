"""Faults at random, for as long as one likes, and the ledger of what came of it: ``make chaos``."""
