"""Where payments are kept: tables, the one door for writing (store), reads, sweeps, migrations.

The business calls `Store.change` and `Store.find`, sweeps and queries; nothing outside knows a driver or a dialect.
"""
