"""What a payer sees: the pages in a real Chromium."""
