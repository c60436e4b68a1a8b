"""Every spelling of the bank and nothing else: parses what clients send into the trade's terms, renders
what they expect.

Section numbers in the modules' docstrings are those of docs/protocol.md.
"""
