"""Results: collect the metrics of many runs into one tidy table, figures, tables and captions."""
