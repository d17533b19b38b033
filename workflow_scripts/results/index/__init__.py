"""The results page: one HTML file with a summary, an explorer, a leaderboard and provenance."""
