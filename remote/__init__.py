"""What reaches over the network: frames by URL, and fal.ai's hosted AMT endpoints. Knows no ComfyUI.

`fal_queue` alone needs the optional package fal-client; nothing here imports it but who uses it.
"""
