"""The online half: loads a bundle and answers over HTTP. Never imports torch or training."""
