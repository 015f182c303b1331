"""The flags of `vae-train`: what may be asked of each step, and what a flag's text is as a value. Knows no steps."""
