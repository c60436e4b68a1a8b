"""The business in the trade's words: money, cards, merchants, orders, payments, messages.

Standard library and frozen msgspec structs only: no I/O, no clock, no randomness, no database, no field name of the
bank.
"""
