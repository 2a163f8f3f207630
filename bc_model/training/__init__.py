"""Training: settings, the run folder, the two phases, and runs as processes of their own."""
