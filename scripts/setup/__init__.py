"""A ComfyUI to work with: found or made (`install`), started and asked (`server`), its editor driven (`editor`)."""
