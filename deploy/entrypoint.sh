#!/bin/sh
# The image's entry point: it runs on what the image was built for (/opt/device), unless VAE_DEVICE says otherwise.
set -eu
if [ -z "${VAE_DEVICE:-}" ]; then
    read -r VAE_DEVICE < /opt/device
    export VAE_DEVICE
fi
exec vae-serve "$@"
