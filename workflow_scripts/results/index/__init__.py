"""The page of results: one HTML file with a summary, an explorer, a leaderboard and provenance."""
