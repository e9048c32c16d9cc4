"""The archive: what subscribers of the ledger keep for ten years, as Parquet files with a manifest."""
