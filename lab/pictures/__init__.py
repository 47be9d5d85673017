"""What draws: figures of runs and reports, and the images that a model gets wrong. Knows no MLflow."""
