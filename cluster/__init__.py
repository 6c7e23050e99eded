"""One long video on several GPUs or machines, over Ray.

`head` runs in ComfyUI and starts `driver` as a process of its own, because a Ray that loses its cluster ends the
process that it is in. The driver gives segments to `worker`, which knows neither ComfyUI nor Ray, and the head joins
them.
"""
