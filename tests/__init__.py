"""The tests of tolem; their folders mirror src/tolem."""
