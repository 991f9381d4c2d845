"""Looking after a store: journal, maintenance, migrations, salvage, transfer, Parquet."""
