"""Fuzzes one target until its time is over. For the environment that the command creates.

``worker TARGET FOLDER [libFuzzer's options]``: the corpus is kept in FOLDER/corpus, what broke in FOLDER/found.
"""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["beaker"]):
    from benchmarks.fuzzing import targets

SLOW = 1.0
"""Seconds of the processor that no input may take."""


def main(arguments: list[str]) -> None:
    name, place, *options = arguments
    (target,) = [target for target in targets.TARGETS if target.name == name]
    corpus, found = Path(place) / "corpus", Path(place) / "found"
    for folder in (corpus, found):
        folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds()):
        (corpus / f"seed-{number}").write_bytes(seed)

    def read(data: bytes) -> None:
        begun = time.process_time()
        target.read(data)
        seconds = time.process_time() - begun
        if seconds > SLOW:
            raise AssertionError(f"{seconds:.1f} s for {len(data)} bytes")

    logging.disable()
    libfuzzer = ["-print_final_stats=1", f"-artifact_prefix={found}/", "-rss_limit_mb=1024", "-max_len=16384"]
    atheris.Setup([sys.argv[0], *libfuzzer, *options, str(corpus)], read)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
