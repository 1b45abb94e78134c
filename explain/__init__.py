"""What a model has learned and how it errs: rows, residuals, contributions, effects, charts."""
