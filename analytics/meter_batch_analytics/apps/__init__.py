"""The apps: explorer, trends and data quality. Each is a class whose widgets a thin notebook shows."""
