"""Results: from the metrics of many runs to one tidy table, figures, tables and captions."""
