"""Everything that reaches over the network: frames by URL, and fal.ai's hosted AMT endpoints. It knows no ComfyUI.

`fal_queue` and the modules that it imports by such a name alone need the optional package fal-client.
"""
