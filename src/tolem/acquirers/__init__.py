"""The door to banks: what an acquirer and an authenticator are (base), and one module per connector."""
