"""Numbers, plots and one self-contained HTML page per run."""
