"""Daily and monthly reports: what they say (`facts`), what it costs (`tariff`), and where they are kept (`store`)."""
