"""Tolem: a payment page and gateway that speaks the protocol of Halyk ePay."""

__version__ = "0.1.0"
