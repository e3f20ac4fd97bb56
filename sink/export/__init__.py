"""Datasets in the formats of others, without discarded episodes (`DatasetView.kept_episodes`) unless asked for."""
