"""Systems, baselines, intervals and the report; nothing here imports a model."""
