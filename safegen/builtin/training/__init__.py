"""Training of the embedded model, in resumable stages: the autoencoder first, then denoiser and judge."""
