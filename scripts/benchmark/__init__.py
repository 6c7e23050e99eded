"""What the pack costs on this machine.

python scripts/benchmark rates          exact frame rates beside whole multiples, and times of a pair together
python scripts/benchmark speed          networks beside ComfyUI core's; --write-docs writes the documentation's tables
python scripts/benchmark motion         a pair with large motion, in full and with auto, beside core's RIFE
python scripts/benchmark video memory   peak memory of a short and of a long video
python scripts/benchmark video busy     how much of a video's time the network works
python scripts/benchmark counts         what a pair costs a GPU, counted without one; --write-docs writes the table
python scripts/benchmark cluster        one, two and four workers of Ray, with a network that takes a fixed time a frame
"""

COMMANDS = ("cluster", "counts", "motion", "rates", "speed", "video")
