#!/usr/bin/env bash
# nudenet 3.4.2, opencv-python-headless 5.0.0.93, onnxruntime 1.32.0, numpy 2.4.6.
#
# What was expected: `NudeDetector.detect` sees the same picture in a file and in an array of its red, green and blue.
# What happens: OpenCV reads files as blue, green, red. `_read_image` exchanges red and blue (`COLOR_RGBA2BGR`), then
# once more (`swapRB=True`), whatever it was given: a file reaches the network as blue, green, red, an array of red,
# green, blue as that. The bytes of a file with 16 bits a channel are not brought to 8, as its name is: they reach the
# network up to 257 times as bright as white may be.
# Why it matters here: scores of one picture differ by way of entry, and thresholds published for one way are used for
# the other. Of 22 crops of photographs, faces were seen more surely in 17 as an array of red, green, blue.
# What to do: choose one way. safegen hands over arrays in the order of files, of 8 bits (safegen/image_check.py).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q nudenet==3.4.2 opencv-python-headless==5.0.0.93 onnxruntime==1.32.0 numpy==2.4.6
cd "$work"
venv/bin/python - <<'PY'
import cv2
import numpy as np
from nudenet import NudeDetector

detector = NudeDetector()
session = detector.onnx_session


class Spy:
    def run(self, names, feed):
        self.fed = next(iter(feed.values()))[0, :, 0, 0].tolist()
        return session.run(names, feed)


detector.onnx_session = spy = Spy()
red = np.zeros((64, 64, 3), np.uint8)
red[..., 0] = 255  # red, green, blue
cv2.imwrite("red.png", red[..., ::-1])
cv2.imwrite("deep.png", red[..., ::-1].astype(np.uint16) * 257)
ways = {
    "file": "red.png",
    "array of red, green, blue": red,
    "array of blue, green, red": np.ascontiguousarray(red[..., ::-1]),
    "file of 16 bits": "deep.png",
    "bytes of that file": open("deep.png", "rb").read(),
}
seen = {}
for way, what in ways.items():
    detector.detect(what)
    seen[way] = spy.fed
    print(f"a red picture as {way}: the network is fed {spy.fed}")
assert seen["file"] == seen["array of blue, green, red"] == seen["file of 16 bits"] == [0, 0, 1]
assert seen["array of red, green, blue"] == [1, 0, 0], "arrays now reach the network as files do"
assert seen["bytes of that file"] == [0, 0, 257], "bytes of 16 bits are now brought to 8"
PY
