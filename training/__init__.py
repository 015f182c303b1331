"""The offline half: fits a VAE to data and writes the bundle that `service` serves. Never imports fastapi."""
