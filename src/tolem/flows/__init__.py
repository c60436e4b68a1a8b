"""What tolem does, one module per stage of a payment. All that changes something passes through here.

    tokens         1  the shop's server asks for an access token; opens an order's round
    checkout       2  the payer's browser opens the page, types a card, leaves
    authorization  5  reserve → call → record: one exchange with the acquirer
    recovery       5  settles exchanges that were cut short
    expiry            ends rounds whose deadline passed

rounds (pure decisions on an order's round), outcome (pure decisions on an acquirer's answer) and directory (merchants
and terminals as last read) serve them; administration is the operator's.
"""
