"""AMT: the network, the timeline and the engine. Plain PyTorch; knows nothing of ComfyUI or of files."""
