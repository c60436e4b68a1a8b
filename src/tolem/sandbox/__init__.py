"""The bank that a sandbox plays: cards whose number says what happens, an acquirer with a ledger of its own, an
authenticator, and the published client and terminal. Only bootstrap imports this room.
"""
