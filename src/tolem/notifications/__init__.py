"""The door to shops: the outbox message, its schedule, the sender with its guard, and the notifier that joins them."""
