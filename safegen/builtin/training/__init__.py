"""Training of the embedded model: autoencoder, then denoiser and judge, each resumable."""
