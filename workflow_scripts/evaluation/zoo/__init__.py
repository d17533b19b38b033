"""Model zoo: models to share, loadable by open_clip, with verified model cards."""
